/**
 * The reader's conversations, kept in this browser: one entry each, so that two windows do not overwrite each other's. What is stored there may have been written by anything: an entry of another form is not shown.
 *
 * @typedef {{tokens: number, first: ?number, rate: ?number, finish: ?string}} Figures
 * @typedef {{role: "user"|"assistant", content: string, figures?: Figures, stopped?: boolean,
 *     error?: {title: string, text: string}}} Turn
 * @typedef {{id: string, title: ?string, mode: "chat"|"complete", turns: Turn[], changed: number}} Conversation
 */

import { browserShelf } from "./shelf.js";

const PREFIX = "mixtralkit.conversation.";
const TITLE_LENGTH = 60;

/** An empty conversation, which is stored once it has a turn. */
export const newConversation = (mode) => ({ id: newId(), title: null, mode, turns: [], changed: Date.now() });

/** crypto.randomUUID is there only on secure origins, and this page is also read over plain HTTP. */
function newId() {
    return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join(
        "",
    );
}

/** Whether a storage event is about conversations. */
export const isConversationKey = (key) => key === null || key.startsWith(PREFIX);

/**
 * All stored conversations, the one that changed last first.
 * @returns {Conversation[]}
 */
export function storedConversations() {
    return browserShelf
        .keys()
        .filter((key) => key.startsWith(PREFIX))
        .map((key) => storedConversation(key.slice(PREFIX.length)))
        .filter((conversation) => conversation !== null)
        .sort((one, other) => other.changed - one.changed);
}

/**
 * The conversation with this id, or null.
 * @returns {?Conversation}
 */
export function storedConversation(id) {
    try {
        const stored = JSON.parse(browserShelf.get(PREFIX + id));
        return isConversation(stored) && stored.id === id ? stored : null;
    } catch {
        return null;
    }
}

function isConversation(value) {
    return (
        ["chat", "complete"].includes(value?.mode) &&
        (value.title === null || typeof value.title === "string") &&
        typeof value.changed === "number" &&
        Array.isArray(value.turns) &&
        value.turns.every((turn) => ["user", "assistant"].includes(turn?.role) && typeof turn.content === "string")
    );
}

/**
 * Stores a conversation.
 * @returns {boolean} false when the browser has no room for it
 */
export const store = (conversation) => browserShelf.set(PREFIX + conversation.id, JSON.stringify(conversation));

/** Forgets a conversation. */
export const forget = (id) => browserShelf.remove(PREFIX + id);

/** The title that the reader gave, or the beginning of what was said first. */
export function titleOf({ title, turns }) {
    if (title) return title;
    const first = (turns[0]?.content ?? "").trim().replace(/\s+/g, " ");
    if (first === "") return "New conversation";
    return first.length > TITLE_LENGTH ? `${first.slice(0, TITLE_LENGTH).trimEnd()}…` : first;
}

/** Hands the reader a conversation as a JSON file. */
export function exportFile(conversation) {
    const text = JSON.stringify(conversation, null, 2);
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${fileName(titleOf(conversation))}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const fileName = (title) => title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "conversation";
