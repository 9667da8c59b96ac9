/**
 * Light or dark. A classic script in the head, so that the page is never painted in the wrong one. Without a choice of
 * the reader's own the system's preference holds; choosing what the system prefers takes the choice back.
 */
(() => {
    const STORED = "mixtralkit.theme";
    const system = matchMedia("(prefers-color-scheme: dark)");

    const chosen = () => {
        try {
            return localStorage.getItem(STORED);
        } catch {
            return null; // storage is forbidden: the system's preference it is
        }
    };
    const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

    const choose = (theme) => {
        const own = theme !== (system.matches ? "dark" : "light");
        if (own) document.documentElement.dataset.theme = theme;
        else delete document.documentElement.dataset.theme;
        try {
            if (own) localStorage.setItem(STORED, theme);
            else localStorage.removeItem(STORED);
        } catch {
            // it holds until the page is closed
        }
    };

    const name = (button) => {
        const label = isDark() ? "Switch to the light theme" : "Switch to the dark theme";
        button.setAttribute("aria-label", label);
        button.title = label;
    };

    const theme = chosen();
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
    addEventListener("DOMContentLoaded", () => {
        const button = document.getElementById("theme");
        name(button);
        system.addEventListener("change", () => name(button));
        button.addEventListener("click", () => {
            choose(isDark() ? "light" : "dark");
            name(button);
        });
    });
})();
