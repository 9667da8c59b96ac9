/** The sampling settings: a form, kept in this browser. */

import { browserShelf } from "./shelf.js";

const STORED = "mixtralkit.settings";
const TEXTS = ["system"];
const OPTIONAL = ["seed"];

export class SettingsForm {
    /**
     * @typedef {{system: string, temperature: number, top_p: number, top_k: number, min_p: number, max_tokens: number,
     *     seed: ?number}} Settings
     * @param {HTMLFormElement} form its controls bear the names of the settings, and its HTML the defaults
     * @param {function()} open brings the form into sight
     */
    constructor(form, open) {
        this.form = form;
        this.open = open;
        this.#restore();
        this.#tellValues();
        form.addEventListener("input", () => this.#changed());
        form.addEventListener("reset", () => setTimeout(() => this.#changed())); // the controls are set after the event
        form.addEventListener("submit", (event) => event.preventDefault());
    }

    /** The settings, or null (and the control at fault is shown) where one of them is out of its range. */
    read() {
        if (!this.form.checkValidity()) return null;
        return Object.fromEntries(
            [...this.form.elements].filter((one) => one.name).map((one) => [one.name, valueOf(one)]),
        );
    }

    /** Shows the reader which control is at fault. */
    complain() {
        if (this.form.offsetParent === null) this.open();
        this.form.reportValidity();
    }

    #changed() {
        this.#tellValues();
        const values = Object.fromEntries(
            [...this.form.elements].filter((one) => one.name).map((one) => [one.name, one.value]),
        );
        browserShelf.set(STORED, JSON.stringify(values));
    }

    #restore() {
        let values;
        try {
            values = JSON.parse(browserShelf.get(STORED)) ?? {};
        } catch {
            return;
        }
        for (const control of this.form.elements)
            if (control.name && typeof values[control.name] === "string") control.value = values[control.name];
    }

    /** A slider's value stands beside its name. */
    #tellValues() {
        for (const output of this.form.querySelectorAll("output"))
            output.value = Number(this.form.elements[output.htmlFor].value).toFixed(2);
    }
}

function valueOf({ name, value }) {
    if (TEXTS.includes(name)) return value.trim();
    return OPTIONAL.includes(name) && value === "" ? null : Number(value);
}
