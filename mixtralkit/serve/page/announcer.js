/**
 * What a screen reader is told while an answer streams in: whole sentences, at most one message every few seconds, so
 * that it is neither flooded nor told fragments.
 */

import { el } from "./dom.js";

const PAUSE = 2500; // milliseconds between two messages of one answer
const KEPT = 3; // messages that stay in the region; a reader that is behind may still be at an older one

export class Announcer {
    #text = "";
    #said = 0;
    #last = 0;

    /** @param {Element} region a hidden element with aria-live="polite" */
    constructor(region) {
        this.region = region;
    }

    /** Says something at once. */
    say(text) {
        this.region.append(el("p", {}, text));
        while (this.region.children.length > KEPT) this.region.firstElementChild.remove();
    }

    /** A new answer begins. */
    begin() {
        this.#text = "";
        this.#said = 0;
        this.#last = performance.now();
        this.say("Answering");
    }

    /** A piece of the answer has come. */
    add(piece) {
        this.#text += piece;
        const end = lastSentenceEnd(this.#text);
        if (end > this.#said && performance.now() - this.#last >= PAUSE) this.#flush(end);
    }

    /** The answer has ended: what was not said yet, and how it ended. */
    end(how) {
        this.#flush(this.#text.length);
        this.say(how);
    }

    #flush(end) {
        const text = this.#text.slice(this.#said, end).trim();
        this.#said = end;
        this.#last = performance.now();
        if (text) this.say(text);
    }
}

/** The index behind the last end of a sentence or line, 0 when there is none. */
function lastSentenceEnd(text) {
    const ends = [...text.slice(-1000).matchAll(/[.!?:;](?=\s)|\n/g)];
    return ends.length === 0 ? 0 : Math.max(0, text.length - 1000) + ends.at(-1).index + 1;
}
