/** The line in the page's head: the model's name, and how far the server is. */

import { el } from "./dom.js";
import { percent } from "./numbers.js";

const PAUSE = 2000; // milliseconds between two questions while the server is not ready
const WORDS = { ready: "", draining: "Ending", stuck: "A rank does not answer", failed: "Failed" };

export class Status {
    /**
     * @param {Element} element
     * @param {Api} api
     * @param {function(string)} onModel is told the model's name
     */
    constructor(element, api, onModel) {
        this.element = element;
        this.api = api;
        this.onModel = onModel;
    }

    /**
     * The first model of the server.
     * @returns {Promise<{id: string}>}
     */
    async model() {
        this.known ??= (await this.api.get("v1/models")).data[0];
        return this.known;
    }

    /** Asks how the server is until it is ready; the reader is asked for the key only once. */
    async watch(ask = true) {
        const state = await this.#state(ask);
        this.show(state);
        if (state.state !== "ready") setTimeout(() => this.watch(false), PAUSE);
    }

    /** Shows a state of the machine. */
    show({ state, model, reason, loaded }) {
        const words = state === "loading" ? `Loading, ${percent(loaded, 0)}` : (WORDS[state] ?? state);
        const text = [model, words].filter(Boolean).join(" · ");
        if (this.shown === text) return;
        this.shown = text;
        this.element.replaceChildren(el("span", { class: "dot", "data-state": state }), text);
        this.element.title = reason ?? "";
        if (model) this.onModel(model);
    }

    async #state(ask) {
        try {
            return await this.api.get("page/state.json", { ask });
        } catch (error) {
            return { state: error.title ?? "Failed", reason: error.message };
        }
    }
}
