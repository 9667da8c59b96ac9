/**
 * Requests to the server that sent this page. Paths are relative, so that the page also works below a proxy's folder.
 * What goes wrong is an ApiError, in words for the reader. A 401 asks for the API key, which is kept in this tab only.
 */

import { tabShelf } from "./shelf.js";

const KEY = "mixtralkit.api_key";

/** What went wrong, for the reader: a short title and a text that says what to do. */
export class ApiError extends Error {
    constructor(status, title, text) {
        super(`${title}. ${text}`);
        this.status = status;
        this.title = title;
        this.text = text;
    }
}

const TITLES = {
    401: "An API key is needed",
    404: "Not found",
    413: "Too long",
    429: "The server is busy",
    503: "The server is not ready",
};
const TEXTS = {
    401: "The server did not accept the request without a valid key.",
    413: "The request is longer than the server accepts.",
    429: "As many requests are waiting as it takes.",
    503: "It is loading its model, or about to end.",
};

/** The error for an answer that is not a success. */
async function refusal(response) {
    const said = await response.json().catch(() => null);
    const message = said?.error?.message ?? TEXTS[response.status] ?? `It answered with status ${response.status}.`;
    const title =
        TITLES[response.status] ?? (response.status >= 500 ? "The server failed" : "The server refused this request");
    return new ApiError(response.status, title, [asSentence(message), whenAgain(response)].join(" ").trim());
}

const asSentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

function whenAgain(response) {
    if (response.status !== 429 && response.status !== 503) return "";
    const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
    if (Number.isNaN(seconds)) return "Try again in a moment.";
    return `Try again in ${seconds} ${seconds === 1 ? "second" : "seconds"}.`;
}

/** The error that a stream which has begun carries in `data: {"error": ...}`. */
export function streamError(error) {
    return new ApiError(
        error.code ?? 500,
        "The answer could not be completed",
        asSentence(String(error.message ?? "No reason was given")),
    );
}

/** The error of a stream that ends before it says that it is complete. */
export const brokenStream = () =>
    new ApiError(0, "The connection was lost", "The answer ended before it was complete.");

const unreachable = () => new ApiError(0, "The server does not answer", "It may have ended, or the network is down.");

/** The requests of the page, and the key that they carry. */
export class Api {
    #asking = null;
    #key = tabShelf.get(KEY);

    /** @param {function(string): Promise<string|null>} askForKey shows its text; null when the reader declines */
    constructor(askForKey) {
        this.askForKey = askForKey;
    }

    /**
     * GET, as JSON.
     * @param {string} path
     * @param {{signal?: AbortSignal, ask?: boolean}} options ask: whether the reader may be asked for the key
     */
    async get(path, { signal = null, ask = true } = {}) {
        return (await this.#request(path, { signal, cache: "no-store" }, ask)).json();
    }

    /** POST of JSON; the answer as it comes. */
    post(path, body, signal) {
        const headers = { "Content-Type": "application/json" };
        return this.#request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
    }

    async #request(path, options, ask = true) {
        for (;;) {
            const key = this.#key;
            const response = await this.#fetch(path, options, key);
            if (response.ok) return response;
            const error = await refusal(response);
            if (response.status !== 401 || !ask || !(await this.#newKey(key))) throw error;
        }
    }

    async #fetch(path, options, key) {
        const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
        try {
            return await fetch(path, { ...options, headers });
        } catch (error) {
            throw error.name === "AbortError" ? error : unreachable();
        }
    }

    /** Whether there is a key other than `refused` now; asks once for all the requests that wait for it. */
    async #newKey(refused) {
        if (this.#key !== refused) return true;
        this.#asking ??= this.#ask(refused).finally(() => (this.#asking = null));
        return this.#asking;
    }

    async #ask(refused) {
        const key = await this.askForKey(
            refused ? "The server did not accept that key." : "This server answers only with an API key.",
        );
        if (!key) return false;
        tabShelf.set(KEY, key);
        this.#key = key;
        return true;
    }
}
