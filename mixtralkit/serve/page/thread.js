/**
 * A conversation on the page: in the mode "chat" as questions and answers, in the mode "complete" as one text in which
 * what was generated is marked. Only the last answer grows.
 */

import { el, setText } from "./dom.js";
import { duration, plural, rate } from "./numbers.js";
import { showText } from "./text_parts.js";

const FIGURES_PAUSE = 250; // milliseconds: figures that change with every piece could not be read

export class Thread {
    #last = null; // elements of the answer that may still grow: {turn, text, foot, mode}
    #frame = null;
    #figuresShown = 0;

    /**
     * @param {Element} element
     * @param {function()} onRegenerate makes the last answer again
     */
    constructor(element, onRegenerate) {
        this.element = element;
        this.onRegenerate = onRegenerate;
    }

    /**
     * Shows a conversation from the start.
     * @param {Conversation} conversation
     * @param {boolean} running whether its last answer is still being generated
     */
    show({ turns, mode }, running) {
        this.#last = null;
        const shown = mode === "complete" ? [this.#completion(turns)] : turns.map((turn) => this.#turn(turn));
        this.element.replaceChildren(...(turns.length === 0 ? [] : shown));
        this.#showFoot(running);
    }

    /** The last answer has grown: shown with the next frame. */
    grow() {
        this.#frame ??= requestAnimationFrame(() => {
            this.#frame = null;
            this.#showLast();
        });
    }

    /** The last answer has ended. */
    end() {
        this.#showLast();
        this.#showFoot(false);
    }

    #turn(turn) {
        const text = el("div", { class: "text" });
        showText(text, turn.content);
        if (turn.role === "user")
            return el("article", { class: "turn said" }, el("h3", { class: "unseen" }, "You"), text);
        const foot = el("div", { class: "foot" }, ...footOf(turn));
        this.#last = { turn, text, foot, mode: "chat" };
        return el("article", { class: "turn answer" }, el("h3", { class: "unseen" }, "Answer"), text, foot);
    }

    #completion(turns) {
        const spans = turns.map((turn) =>
            turn.role === "user" ? el("span", {}, turn.content) : el("mark", { class: "generated" }, turn.content),
        );
        const foot = el("div", { class: "foot" });
        const turn = turns.at(-1);
        if (turn?.role === "assistant") this.#last = { turn, text: spans.at(-1), foot, mode: "complete" };
        return el(
            "article",
            { class: "turn completion" },
            el("div", { class: "text prose", dir: "auto" }, ...spans),
            foot,
        );
    }

    #showLast() {
        if (this.#last === null) return;
        const { turn, text, foot, mode } = this.#last;
        if (mode === "chat") showText(text, turn.content);
        else setText(text, turn.content);
        if (performance.now() - this.#figuresShown < FIGURES_PAUSE) return;
        this.#figuresShown = performance.now();
        setText(foot.firstElementChild, figuresText(turn, true));
    }

    #showFoot(running) {
        if (this.#last === null) return;
        const { turn, text, foot } = this.#last;
        text.classList.toggle("growing", running);
        if (running) foot.replaceChildren(el("p", { class: "figures" }, "Waiting for the first token"));
        else foot.replaceChildren(...footOf(turn), this.#againButton(turn));
    }

    #againButton(turn) {
        return button(turn.error ? "Try again" : "Regenerate", this.onRegenerate);
    }
}

/** What stands under an answer that has ended: what went wrong, its figures, and what can be done with it. */
function footOf(turn) {
    const error = turn.error
        ? [el("p", { class: "notice" }, el("strong", {}, turn.error.title), " ", turn.error.text)]
        : [];
    const figures = figuresText(turn, false);
    return [
        ...error,
        ...(figures ? [el("p", { class: "figures" }, figures)] : []),
        ...(turn.content ? [button("Copy", (event) => copy(turn.content, event.currentTarget))] : []),
    ];
}

const button = (label, onClick) => el("button", { type: "button", class: "quiet", click: onClick }, label);

/** The figures of an answer as one line; the line of one that still grows has no end. */
function figuresText({ figures, stopped }, running) {
    const parts = [];
    if (figures?.tokens) parts.push(plural(figures.tokens, "token", "tokens"));
    if (figures?.rate) parts.push(`${rate(figures.rate)} tokens/s`);
    if (figures?.first) parts.push(`first token after ${duration(figures.first)}`);
    if (stopped) parts.push("stopped");
    if (!running && figures?.finish === "length") parts.push("reached the limit of tokens");
    return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" · "); // lines break between the parts only
}

/** Copies to the clipboard; on plain HTTP browsers have none, and then the text is selected for the reader to copy. */
async function copy(text, from) {
    try {
        await navigator.clipboard.writeText(text);
        setText(from, "Copied");
    } catch {
        getSelection().selectAllChildren(from.closest(".turn").querySelector(".text"));
        setText(from, "Selected");
    }
    setTimeout(() => setText(from, "Copy"), 2000);
}
