/** Where the reader writes: the text field, the buttons Send and Stop in one place, and the choice of the mode. */

import { setText } from "./dom.js";

const WORDS = {
    chat: { label: "Message", placeholder: "Write a message", send: "Send" },
    complete: {
        label: "Text to be continued",
        placeholder: "Write a text for the model to continue",
        send: "Continue",
    },
};

export class Composer {
    /**
     * @param {HTMLFormElement} form
     * @param {{send: function(string): boolean, stop: function(), mode: function("chat"|"complete")}} actions send
     *     tells whether the text was taken
     */
    constructor(form, actions) {
        this.form = form;
        this.field = form.querySelector("textarea");
        this.sendButton = form.querySelector("[data-role=send]");
        this.stopButton = form.querySelector("[data-role=stop]");
        this.actions = actions;
        this.#listen();
    }

    /**
     * @param {"chat"|"complete"} mode
     * @param {boolean} running whether an answer is being generated
     */
    show(mode, running) {
        const words = WORDS[mode];
        setText(this.form.querySelector("label[for=message]"), words.label);
        this.field.placeholder = words.placeholder;
        setText(this.sendButton, words.send);
        for (const radio of this.form.elements.mode) {
            radio.checked = radio.value === mode;
            radio.disabled = running;
        }
        this.#showButtons(running);
    }

    focus() {
        this.field.focus({ preventScroll: true });
    }

    clear() {
        this.field.value = "";
        this.#fit();
    }

    #listen() {
        this.field.addEventListener("input", () => this.#fit());
        this.field.addEventListener("keydown", (event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            this.#send();
        });
        this.form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.#send();
        });
        this.stopButton.addEventListener("click", () => this.actions.stop());
        for (const radio of this.form.elements.mode)
            radio.addEventListener("change", () => this.actions.mode(radio.value));
    }

    #send() {
        if (!this.sendButton.hidden && this.actions.send(this.field.value)) this.clear();
    }

    /** The two buttons change places; the focus of the one that goes away stays in the form. */
    #showButtons(running) {
        const hadFocus = document.activeElement === this.sendButton || document.activeElement === this.stopButton;
        this.sendButton.hidden = running;
        this.stopButton.hidden = !running;
        if (hadFocus) this.focus();
    }

    /** As high as its text, up to what the style sheet allows. */
    #fit() {
        this.field.style.height = "auto";
        this.field.style.height = `${this.field.scrollHeight}px`;
    }
}
