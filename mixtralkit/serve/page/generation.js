/** One answer: the request that a conversation and the settings make, and the figures of its run. */

import { pieces } from "./stream.js";

/**
 * The messages of a conversation. An answer that failed before its first word is left out; what the reader said before
 * and after it becomes one message, as roles must alternate.
 * @param {Turn[]} turns
 * @param {string} system
 */
export function messagesOf(turns, system) {
    const messages = system ? [{ role: "system", content: system }] : [];
    for (const { role, content } of turns) {
        const last = messages.at(-1);
        if (content === "") continue;
        if (last?.role === role) last.content += `\n\n${content}`;
        else messages.push({ role, content });
    }
    return messages;
}

/** The text of a conversation in the mode "complete": what was given and what was generated, as one text. */
export const promptOf = (turns) => turns.map((turn) => turn.content).join("");

/**
 * Path and body of the request for the next answer.
 * @param {Conversation} conversation
 * @param {Settings} settings
 * @param {string} model
 */
export function requestFor(conversation, settings, model) {
    const { system, ...sampling } = settings;
    const common = { model, stream: true, stream_options: { include_usage: true }, ...samplingFields(sampling) };
    if (conversation.mode === "complete")
        return { path: "v1/completions", body: { ...common, prompt: promptOf(conversation.turns) } };
    return { path: "v1/chat/completions", body: { ...common, messages: messagesOf(conversation.turns, system) } };
}

/** The settings as request fields: those which are switched off are not sent. */
function samplingFields({ temperature, top_p, top_k, min_p, max_tokens, seed }) {
    const fields = { temperature, top_p, max_tokens };
    if (top_k > 0) fields.top_k = top_k;
    if (min_p > 0) fields.min_p = min_p;
    if (seed !== null) fields.seed = seed;
    return fields;
}

/** Times of one answer. Until the server has told the count of tokens, a piece counts as one. */
export class AnswerClock {
    #started = performance.now();
    #first = null;
    #last = null;
    #pieces = 0;
    tokens = null;
    finish = null;

    /** Takes note of a piece that has just come. */
    take({ text, finish, tokens }) {
        this.finish = finish ?? this.finish;
        this.tokens = tokens ?? this.tokens;
        if (text === "") return;
        this.#last = performance.now();
        this.#first ??= this.#last;
        this.#pieces += 1;
    }

    /**
     * @returns {Figures} tokens, seconds to the first of them, and tokens a second from the first to the last (null
     *     with fewer than two)
     */
    figures() {
        const tokens = this.tokens ?? this.#pieces;
        const between = (this.#last - this.#first) / 1000;
        return {
            tokens,
            first: this.#first === null ? null : (this.#first - this.#started) / 1000,
            rate: tokens > 1 && between > 0 ? (tokens - 1) / between : null,
            finish: this.finish,
        };
    }
}

/**
 * Runs one request and hands its text to `onText` as it comes.
 * @param {Api} api
 * @param {{path: string, body: object}} request
 * @param {AbortSignal} signal
 * @param {function(string, AnswerClock)} onText
 * @returns {Promise<void>}
 */
export async function generate(api, request, signal, onText) {
    const clock = new AnswerClock();
    const response = await api.post(request.path, request.body, signal);
    for await (const piece of pieces(response)) {
        clock.take(piece);
        onText(piece.text, clock);
    }
}
