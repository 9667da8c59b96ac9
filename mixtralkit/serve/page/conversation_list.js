/** The list of the reader's conversations. */

import { storedConversations, titleOf } from "./conversations.js";
import { el } from "./dom.js";

export class ConversationList {
    /**
     * @param {Element} list a <ul>
     * @param {function(string)} onOpen is called with a conversation's id
     */
    constructor(list, onOpen) {
        this.list = list;
        this.onOpen = onOpen;
    }

    /**
     * Shows what is stored.
     * @param {string} current the id of the conversation that is open
     */
    show(current) {
        const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
        const items = storedConversations().map((conversation) => this.#item(conversation, current));
        this.list.replaceChildren(...items);
        if (focused) this.list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
    }

    #item(conversation, current) {
        const attributes = {
            type: "button",
            "data-id": conversation.id,
            "aria-current": conversation.id === current ? "true" : null,
            click: () => this.onOpen(conversation.id),
        };
        return el("li", {}, el("button", attributes, titleOf(conversation)));
    }
}
