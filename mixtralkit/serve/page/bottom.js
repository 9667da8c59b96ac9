/** Keeps the end of the page in sight while an answer grows, until the reader scrolls away from it. */

const NEAR = 60; // pixels from the end that still count as being there

export class Bottom {
    #followed = true;

    /**
     * @param {Element} growing what grows
     * @param {HTMLButtonElement} button takes the reader back to the end; shown when it is out of sight
     */
    constructor(growing, button) {
        this.button = button;
        addEventListener("scroll", () => this.#look(), { passive: true });
        new ResizeObserver(() => this.#grown()).observe(growing);
        button.addEventListener("click", () => this.go());
    }

    /** Goes to the end, and stays there. */
    go() {
        this.#followed = true;
        scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
        this.button.hidden = true;
    }

    #grown() {
        if (this.button.offsetParent === null && !this.button.hidden) return; // the other tab is shown
        if (this.#followed) this.go();
    }

    #look() {
        const { scrollHeight } = document.documentElement;
        this.#followed = scrollHeight - innerHeight - scrollY < NEAR;
        this.button.hidden = this.#followed;
    }
}
