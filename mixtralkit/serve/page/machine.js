/** The machine tab: asks for page/state.json once a second while it is seen, and shows what it tells. */

import { byId, el, setText } from "./dom.js";
import { HeatTable } from "./heat_table.js";
import { showLegend } from "./heat_legend.js";
import { Heatmap } from "./heatmap.js";
import { count, duration, percent, plural, rate } from "./numbers.js";
import { showRanks } from "./rank_table.js";
import { Sparkline } from "./sparkline.js";
import { StateHistory, hasRows, workBetween } from "./state_history.js";

const PAUSE = 1000; // milliseconds
const LATELY = 30; // seconds that the heatmap and the ranks show
const WAITING = ["loading", "draining"];
const NOW = 5; // seconds that the throughput is of

export class Machine {
    #history = new StateHistory();
    #polling = null;
    #shown = false;

    /**
     * @param {Api} api
     * @param {function(object)} onState is told each state
     */
    constructor(api, onState) {
        this.api = api;
        this.onState = onState;
        this.heatmap = new Heatmap(byId("heat"), byId("heat-detail"));
        this.table = new HeatTable(byId("heat-table"));
        this.sparklines = {
            throughput: new Sparkline(
                byId("throughput-spark"),
                "Throughput",
                (value) => `${rate(value)} tokens a second`,
            ),
            step: new Sparkline(byId("step-spark"), "Step time", duration),
            requests: new Sparkline(byId("requests-spark"), "Running requests", count),
        };
        document.addEventListener("visibilitychange", () => this.#arrange());
        for (const id of ["heat-span", "heat-view"]) byId(id).addEventListener("change", () => this.#showWork());
    }

    /** Whether the tab is the one that is shown. */
    show(shown) {
        this.#shown = shown;
        this.#arrange();
    }

    /** Asks while the tab is seen, and only then. */
    #arrange() {
        const wanted = this.#shown && !document.hidden;
        if (wanted && this.#polling === null) this.#poll();
        if (wanted || this.#polling === null) return;
        this.#polling.abort();
        this.#polling = null;
    }

    async #poll() {
        const polling = new AbortController();
        this.#polling = polling;
        while (!polling.signal.aborted) {
            await this.#ask(polling);
            await new Promise((resolve) => setTimeout(resolve, PAUSE));
        }
    }

    async #ask(polling) {
        try {
            this.#take(await this.api.get("page/state.json", { signal: polling.signal }));
        } catch (error) {
            if (error.name === "AbortError") return;
            const refused = error.status === 401;
            this.#notice(error.message, "failure", refused);
            if (refused) this.#stop(); // asked once, not every second
            if (error.status === undefined) throw error;
        }
    }

    #stop() {
        this.#polling.abort();
        this.#polling = null;
    }

    #take(state) {
        this.#history.add(state);
        this.onState(state);
        this.#notice(stateInWords(state), WAITING.includes(state.state) ? "waiting" : "failure");
        this.#showTiles(state);
        this.#showWork();
    }

    #notice(text, kind, withKey = false) {
        const notice = byId("machine-notice");
        notice.hidden = text === "";
        notice.dataset.kind = kind;
        notice.setAttribute("aria-live", kind === "failure" ? "polite" : "off"); // progress would be told every second
        if (notice.dataset.text === text) return;
        notice.dataset.text = text;
        const again = el("button", { type: "button", class: "quiet", click: () => this.#arrange() }, "Enter a key");
        notice.replaceChildren(text, ...(withKey ? [" ", again] : []));
    }

    #showTiles(state) {
        const { seconds, generated, prompt } = this.#history.lately(NOW);
        const perSecond = (tokens) => (seconds > 0 ? rate(tokens / seconds) : "–");
        setText(byId("throughput"), perSecond(generated));
        setText(byId("throughput-more"), `and ${perSecond(prompt)} prompt tokens/s`);
        setText(byId("step"), state.steps > 0 ? duration(state.last_step_seconds) : "–");
        setText(byId("step-more"), plural(state.steps, "step", "steps"));
        setText(byId("requests"), count(state.running));
        setText(byId("requests-more"), `${count(state.waiting)} of at most ${count(state.queue_limit)} waiting`);
        setText(byId("kv"), percent(state.kv_usage));
        setText(byId("kv-more"), kvInWords(state));
        byId("kv-meter").value = state.kv_usage;
        this.#showLines();
    }

    #showLines() {
        this.sparklines.throughput.show(this.#history.points(throughput));
        this.sparklines.step.show(
            this.#history.points((state) => (state.steps > 0 ? state.last_step_seconds : null)),
        );
        this.sparklines.requests.show(this.#history.points((state) => state.running));
    }

    /** What the heatmap and the ranks show: the last seconds, or everything where nothing was done in them. */
    #showWork() {
        const state = this.#history.last;
        if (!state) return;
        byId("work").hidden = state.num_layers === 0;
        byId("no-work").hidden = state.num_layers > 0 || state.state !== "ready";
        if (state.num_layers === 0) return;
        const lately = this.#history.lately(LATELY);
        const isLately = chosen("heat-span") === "lately" && hasRows(lately);
        const work = isLately ? lately : this.#history.all();
        const view = chosen("heat-view");
        setText(
            byId("heat-window"),
            view === "load" ? windowInWords(isLately, work) : "The ranks that hold each expert now",
        );
        setText(
            byId("ranks-window"),
            isLately ? `In the last ${Math.round(work.seconds)} seconds` : "Since the server started",
        );
        this.heatmap.show(work.rows_LE, state.holders_LE, view);
        this.table.show(work.rows_LE, state.holders_LE);
        showLegend(byId("heat-legend"), view, state.ranks.length);
        showRanks(byId("ranks"), state, work);
    }
}

const chosen = (fieldset) => byId(fieldset).querySelector("input:checked").value;

/** Tokens a second from one state to the next; null for the first. */
function throughput(state, before) {
    if (!before) return null;
    const { generated, seconds } = workBetween(before, state);
    return seconds > 0 ? generated / seconds : null;
}

function stateInWords({ state, reason, loaded }) {
    const words = {
        ready: "",
        loading: `The model is loading: ${percent(loaded, 0)}.`,
        draining: "The server is ending: it finishes what it has begun.",
        stuck: "A rank has taken part in no step lately.",
        failed: "The server has failed.",
    };
    return [words[state], reason].filter(Boolean).join(" ");
}

function kvInWords({ prefix_queries, prefix_hits, preemptions }) {
    const reused = prefix_queries > 0 ? percent(prefix_hits / prefix_queries, 0) : "no";
    return `${reused} prefix reuse, ${count(preemptions)} preempted`;
}

function windowInWords(isLately, work) {
    if (!hasRows(work)) return "No rows yet";
    if (isLately) return `Share of each layer’s rows in the last ${Math.round(work.seconds)} seconds, in percent`;
    const idle = chosen("heat-span") === "lately" ? " (the last 30 seconds were idle)" : "";
    return `Share of each layer’s rows since the server started, in percent${idle}`;
}
