/**
 * What page/state.json told lately. Its totals only grow, so that work of a time is the difference of two states, and a
 * rate is that over their difference in uptime.
 *
 * @typedef {{seconds: number, rows_LE: number[][],
 *     ranks: {rows: number, tokens_rows: number, dispatch_seconds: number}[],
 *     generated: number, prompt: number}} Work
 */

const KEPT = 180; // seconds
const NOTHING = { uptime_seconds: 0, rows_LE: [], ranks: [], generated_tokens: 0, prompt_tokens: 0 };

export class StateHistory {
    #states = [];

    /** Takes the newest state. A server that has started anew begins a new history. */
    add(state) {
        if (state.uptime_seconds < (this.last?.uptime_seconds ?? 0)) this.#states = [];
        this.#states.push(state);
        while (this.#states[0].uptime_seconds < state.uptime_seconds - KEPT) this.#states.shift();
    }

    /** The newest state, undefined before the first. */
    get last() {
        return this.#states.at(-1);
    }

    /** The work of the last so many seconds, or of as many of them as this page has seen. */
    lately(seconds) {
        const since = this.last.uptime_seconds - seconds;
        return workBetween(
            this.#states.find((state) => state.uptime_seconds >= since),
            this.last,
        );
    }

    /** The work since the server started. */
    all() {
        return workBetween(NOTHING, this.last);
    }

    /**
     * A value of each state, with its time in seconds; `valueOf` gets the state and the one before it (undefined for
     * the first), and may give null.
     */
    points(valueOf) {
        return this.#states
            .map((state, index) => ({ time: state.uptime_seconds, value: valueOf(state, this.#states[index - 1]) }))
            .filter(({ value }) => value !== null);
    }
}

/** @returns {Work} what was done from one state to a later one */
export function workBetween(first, last) {
    const ranks = last.ranks.map((rank, index) => ({
        rows: rank.rows - (first.ranks[index]?.rows ?? 0),
        tokens_rows: rank.tokens_rows - (first.ranks[index]?.tokens_rows ?? 0),
        dispatch_seconds: rank.dispatch_seconds - (first.ranks[index]?.dispatch_seconds ?? 0),
    }));
    return {
        seconds: last.uptime_seconds - first.uptime_seconds,
        rows_LE: last.rows_LE.map((rows_E, layer) =>
            rows_E.map((rows, expert) => rows - (first.rows_LE[layer]?.[expert] ?? 0)),
        ),
        ranks,
        generated: last.generated_tokens - first.generated_tokens,
        prompt: last.prompt_tokens - first.prompt_tokens,
    };
}

/** Whether any expert had a row. */
export const hasRows = ({ rows_LE }) => rows_LE.some((rows_E) => rows_E.some((rows) => rows > 0));
