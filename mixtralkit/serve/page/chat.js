/**
 * The chat tab: the conversation that is open, and the answers that are being generated. An answer goes on when the
 * reader opens another conversation; each conversation has one at a time.
 */

import { ApiError } from "./api.js";
import { forget, newConversation, store, storedConversation } from "./conversations.js";
import { generate, requestFor } from "./generation.js";
import { browserShelf, tabShelf } from "./shelf.js";

const OPEN = "mixtralkit.open"; // in the tab: the conversation that a reload opens again
const MODE = "mixtralkit.mode"; // in the browser: the mode of a new conversation
const STORE_PAUSE = 1000; // milliseconds between two times that a growing answer is stored

export class Chat {
    #running = new Map(); // by the conversation's id: {conversation, controller}
    #forgotten = new Set();

    /**
     * @param {object} parts of the page: api, model (a function that resolves to its name), settings, thread, list,
     *     head, composer, announcer, bottom; and onFull, called when the browser has no room for a conversation
     */
    constructor(parts) {
        Object.assign(this, parts);
        const open = storedConversation(tabShelf.get(OPEN));
        this.conversation = open ?? newConversation(browserShelf.get(MODE) === "complete" ? "complete" : "chat");
        addEventListener("pagehide", () => this.#leave());
    }

    /** Shows the conversation that is open. */
    show() {
        const running = this.#running.has(this.conversation.id);
        this.thread.show(this.conversation, running);
        this.composer.show(this.conversation.mode, running);
        this.#showTitles();
        this.bottom.go();
    }

    /** Opens a stored conversation. */
    open(id) {
        const conversation = this.#running.get(id)?.conversation ?? storedConversation(id);
        if (conversation) this.#change(conversation);
    }

    /** Opens a new conversation, in the mode of the present one. */
    openNew() {
        this.#change(newConversation(this.conversation.mode));
    }

    /** Another window has changed what is stored. */
    storedElsewhere() {
        const { id } = this.conversation;
        const stored = storedConversation(id);
        if (stored && !this.#running.has(id)) this.conversation = stored;
        if (stored && !this.#running.has(id)) this.show();
        else this.list.show(id);
    }

    /** The reader has chosen the mode of this conversation. */
    setMode(mode) {
        this.conversation.mode = mode;
        browserShelf.set(MODE, mode);
        if (this.conversation.turns.length > 0) this.#store(this.conversation);
        this.show();
    }

    /** The reader has given the conversation a title. */
    renamed() {
        this.#store(this.conversation);
        this.#showTitles();
    }

    /** Forgets the conversation that is open. */
    deleted() {
        const { id } = this.conversation;
        this.#forgotten.add(id);
        this.#running.get(id)?.controller.abort();
        forget(id);
        this.openNew();
    }

    /**
     * Sends what the reader wrote. Without a text, a text that is being completed goes on.
     * @returns {boolean} whether it was taken
     */
    send(text) {
        const { turns, mode } = this.conversation;
        const empty = mode === "chat" ? text.trim() === "" : text === "" && turns.length === 0;
        if (empty || !this.#ready()) return false;
        if (text !== "") turns.push({ role: "user", content: text });
        this.#answer(this.conversation);
        return true;
    }

    /** Ends the answer that is being generated; what has come of it stays. */
    stop() {
        this.#running.get(this.conversation.id)?.controller.abort();
    }

    /** Makes the last answer again. */
    regenerate() {
        if (!this.#ready()) return;
        this.conversation.turns.pop();
        this.composer.focus(); // the button that was pressed goes away
        this.#answer(this.conversation);
    }

    #ready() {
        if (this.#running.has(this.conversation.id)) return false;
        if (this.settings.read() !== null) return true;
        this.settings.complain();
        return false;
    }

    #change(conversation) {
        this.conversation = conversation;
        tabShelf.set(OPEN, conversation.id);
        this.show();
        this.composer.focus();
    }

    #showTitles() {
        this.head.show(this.conversation);
        this.list.show(this.conversation.id);
    }

    async #answer(conversation) {
        const settings = this.settings.read();
        const controller = new AbortController();
        const turn = { role: "assistant", content: "" };
        const before = { ...conversation, turns: [...conversation.turns] };
        conversation.turns.push(turn);
        conversation.changed = Date.now();
        this.#running.set(conversation.id, { conversation, controller });
        this.#store(conversation);
        tabShelf.set(OPEN, conversation.id);
        this.show();
        this.announcer.begin();
        const how = await this.#generate(before, settings, controller.signal, conversation, turn);
        this.#ended(conversation, how);
    }

    /** Generates into `turn`; resolves to how it ended, in words. */
    async #generate(before, settings, signal, conversation, turn) {
        let stored = performance.now();
        try {
            const request = requestFor(before, settings, await this.model());
            await generate(this.api, request, signal, (text, clock) => {
                turn.content += text;
                turn.figures = clock.figures();
                this.#grown(conversation, text);
                if (performance.now() - stored < STORE_PAUSE) return;
                stored = performance.now();
                this.#store(conversation);
            });
            return "Answer complete";
        } catch (error) {
            return ended(turn, error);
        }
    }

    #grown(conversation, text) {
        if (conversation !== this.conversation) return;
        this.announcer.add(text);
        this.thread.grow();
    }

    #ended(conversation, how) {
        this.#running.delete(conversation.id);
        this.#store(conversation);
        if (conversation !== this.conversation) return;
        this.announcer.end(how);
        this.thread.end();
        this.composer.show(conversation.mode, false);
    }

    #store(conversation) {
        if (this.#forgotten.has(conversation.id)) return;
        if (!store(conversation)) this.onFull();
    }

    /** The page is being left: the answers end here. */
    #leave() {
        for (const { conversation } of this.#running.values()) {
            conversation.turns.at(-1).stopped = true;
            this.#store(conversation);
        }
    }
}

/** Notes in `turn` why it ended early. An error that is not the server's is a mistake of this page: not hidden. */
function ended(turn, error) {
    if (error.name === "AbortError") {
        turn.stopped = true;
        return "Stopped";
    }
    const known = error instanceof ApiError;
    turn.error = { title: known ? error.title : "The page failed", text: known ? error.text : String(error) };
    if (!known) reportError(error);
    return `${turn.error.title}. ${turn.error.text}`;
}
