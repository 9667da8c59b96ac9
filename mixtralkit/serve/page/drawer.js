/** A side panel: a column where there is room for it, else a popover above the page. Its button says which it is. */

/**
 * @param {HTMLElement} panel
 * @param {HTMLButtonElement} button
 * @param {MediaQueryList} wide where the panel is a column
 * @param {boolean} open whether the column is there at first
 */
export function joinDrawer(panel, button, wide, open) {
    const say = () =>
        button.setAttribute("aria-expanded", wide.matches ? !panel.hidden : panel.matches(":popover-open"));

    const fit = () => {
        if (wide.matches) panel.removeAttribute("popover");
        else panel.setAttribute("popover", "auto");
        panel.hidden = wide.matches && !open;
        say();
    };
    const turn = () => {
        if (!wide.matches) return panel.togglePopover({ source: button });
        open = panel.hidden;
        panel.hidden = !open;
        return say();
    };

    button.addEventListener("click", turn);
    panel.addEventListener("toggle", say);
    panel.querySelector(".close")?.addEventListener("click", () => {
        turn();
        button.focus();
    });
    wide.addEventListener("change", fit);
    fit();
}

/** Closes a panel that lies above the page; a column stays. */
export function closePopover(panel) {
    if (panel.matches(":popover-open")) panel.hidePopover();
}
