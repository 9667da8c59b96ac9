/** The head of a conversation: its title, which can be changed in place, and what can be done with it. */

import { confirmDelete } from "./dialogs.js";
import { exportFile, titleOf } from "./conversations.js";
import { setText } from "./dom.js";

export class ConversationHead {
    #conversation = null;

    /**
     * @param {Element} element
     * @param {{renamed: function(), deleted: function()}} actions
     */
    constructor(element, actions) {
        this.element = element;
        this.title = element.querySelector("h2");
        this.field = element.querySelector("input");
        this.buttons = element.querySelectorAll("[data-role]");
        this.actions = actions;
        const perform = {
            rename: () => this.#edit(),
            export: () => exportFile(this.#conversation),
            delete: () => this.#delete(),
        };
        for (const button of this.buttons) button.addEventListener("click", perform[button.dataset.role]);
        this.renameButton = element.querySelector("[data-role=rename]");
        this.#listenToField();
    }

    show(conversation) {
        this.#conversation = conversation;
        setText(this.title, titleOf(conversation));
        this.element.dataset.empty = conversation.turns.length === 0;
        for (const button of this.buttons) button.hidden = conversation.turns.length === 0;
    }

    #edit() {
        this.field.value = titleOf(this.#conversation);
        this.#showField(true);
        this.field.select();
    }

    #showField(shown) {
        this.field.hidden = !shown;
        this.title.hidden = shown;
        (shown ? this.field : this.renameButton).focus();
    }

    #listenToField() {
        this.field.addEventListener("keydown", (event) => {
            if (event.isComposing) return;
            if (event.key === "Escape") this.#showField(false);
            if (event.key === "Enter") this.#rename();
        });
        this.field.addEventListener("blur", () => {
            if (!this.field.hidden) this.#rename();
        });
    }

    /** Takes the title; an empty one gives the conversation its first words back. */
    #rename() {
        this.#conversation.title = this.field.value.trim() || null;
        this.#showField(false);
        this.actions.renamed();
    }

    async #delete() {
        if (await confirmDelete(titleOf(this.#conversation))) this.actions.deleted();
    }
}
