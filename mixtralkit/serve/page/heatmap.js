/**
 * The heatmap of the experts' load: a line a layer, a column an expert; the other view shows the placement. One cell is
 * in the tab order, and the arrow keys go to the others. A cell's numbers stand below the map while it is pointed at or
 * has the focus.
 */

import { el, setAttribute, setText } from "./dom.js";
import { count, percent, ranksInWords } from "./numbers.js";

const SHADES = 9; // from no rows to twice the even share, as in the terminal's table
const NUMBERED = 16; // with more experts than these, cells have no room for numbers
const RANK_COLOURS = 8;
const HINT = "Point at a cell, or move to it with the arrow keys, for its numbers.";

export class Heatmap {
    #cells_LE = [];
    #imbalance_L = [];
    #shown = null; // {rows_LE, holders_LE, view}
    #pointed = null; // {layer, expert}

    /**
     * @param {Element} grid
     * @param {Element} detail where a cell's numbers stand
     */
    constructor(grid, detail) {
        this.grid = grid;
        this.detail = detail;
        grid.addEventListener("pointerover", ({ target }) => this.#point(target));
        grid.addEventListener("focusin", ({ target }) => this.#point(target));
        grid.addEventListener("pointerleave", () => this.#point(document.activeElement));
        grid.addEventListener("focusout", () => this.#point(null));
        grid.addEventListener("keydown", (event) => this.#move(event));
    }

    /**
     * @param {number[][]} rows_LE
     * @param {number[][][]} holders_LE
     * @param {"load"|"placement"} view
     */
    show(rows_LE, holders_LE, view) {
        this.#shown = { rows_LE, holders_LE, view };
        const experts = rows_LE[0]?.length ?? 0;
        if (this.#cells_LE.length !== rows_LE.length || (this.#cells_LE[0]?.length ?? 0) !== experts)
            this.#build(rows_LE.length, experts);
        setAttribute(this.grid, "data-view", view);
        rows_LE.forEach((rows_E, layer) => this.#showLayer(layer, rows_E, holders_LE[layer], view));
        this.#tell();
    }

    #showLayer(layer, rows_E, holders_E, view) {
        const total = rows_E.reduce((sum, rows) => sum + rows, 0);
        const mean = total / rows_E.length;
        rows_E.forEach((rows, expert) => {
            const cell = this.#cells_LE[layer][expert];
            setAttribute(cell, "data-copies", holders_E[expert].length > 1);
            if (cell !== document.activeElement) setAttribute(cell, "aria-label", this.#words(layer, expert));
            if (view === "load") showLoad(cell, rows, total, mean);
            else showHolders(cell, holders_E[expert]);
        });
        setText(this.#imbalance_L[layer], total === 0 ? "–" : `${(Math.max(...rows_E) / mean).toFixed(2)}×`);
    }

    #build(layers, experts) {
        this.grid.style.setProperty("--experts", experts);
        setAttribute(this.grid, "data-numbered", experts <= NUMBERED);
        setAttribute(this.grid, "data-many", experts > NUMBERED);
        this.#imbalance_L = Array.from({ length: layers }, () =>
            el("span", { role: "gridcell", class: "imbalance" }),
        );
        this.#cells_LE = Array.from({ length: layers }, (_, layer) =>
            Array.from({ length: experts }, (__, expert) => cellOf(layer, expert)),
        );
        const rows = this.#cells_LE.map((cells_E, layer) =>
            el(
                "div",
                { role: "row" },
                el("span", { role: "rowheader", "aria-label": `Layer ${layer}` }, String(layer)),
                ...cells_E,
                this.#imbalance_L[layer],
            ),
        );
        this.grid.replaceChildren(headOf(experts), ...rows);
        if (experts > 0 && layers > 0) this.#cells_LE[0][0].tabIndex = 0;
    }

    /** The numbers of a cell as a sentence. */
    #words(layer, expert) {
        const { rows_LE, holders_LE } = this.#shown;
        const rows = rows_LE[layer][expert];
        const total = rows_LE[layer].reduce((sum, each) => sum + each, 0);
        const share = total === 0 ? 0 : rows / total;
        const even = (share * rows_LE[layer].length).toFixed(2);
        const load = `${percent(share)} of the layer’s rows (${count(rows)}), ${even} times the even share`;
        return `Layer ${layer}, expert ${expert}: ${load}. Held by ${ranksInWords(holders_LE[layer][expert])}.`;
    }

    #point(target) {
        const cell = target?.closest?.(".cell");
        this.#pointed = cell ? { layer: Number(cell.dataset.layer), expert: Number(cell.dataset.expert) } : null;
        this.#tell();
    }

    #tell() {
        const there = this.#pointed && this.#cells_LE[this.#pointed.layer]?.[this.#pointed.expert];
        setText(this.detail, there ? this.#words(this.#pointed.layer, this.#pointed.expert) : HINT);
    }

    #move(event) {
        const from = event.target.closest(".cell");
        const target = from && this.#target(Number(from.dataset.layer), Number(from.dataset.expert), event);
        if (!target) return;
        event.preventDefault();
        from.tabIndex = -1;
        target.tabIndex = 0;
        target.focus();
    }

    #target(layer, expert, { key, ctrlKey }) {
        const last = { layer: this.#cells_LE.length - 1, expert: this.#cells_LE[0].length - 1 };
        const targets = {
            ArrowUp: [layer - 1, expert],
            ArrowDown: [layer + 1, expert],
            ArrowLeft: [layer, expert - 1],
            ArrowRight: [layer, expert + 1],
            Home: [ctrlKey ? 0 : layer, 0],
            End: [ctrlKey ? last.layer : layer, last.expert],
        };
        const [toLayer, toExpert] = targets[key] ?? [-1, -1];
        return this.#cells_LE[toLayer]?.[toExpert];
    }
}

const cellOf = (layer, expert) =>
    el("span", {
        role: "gridcell",
        class: "cell",
        tabindex: "-1",
        "data-layer": String(layer),
        "data-expert": String(expert),
    });

function headOf(experts) {
    const columns = Array.from({ length: experts }, (_, expert) =>
        el("span", { role: "columnheader", "aria-label": `Expert ${expert}` }, String(expert)),
    );
    const corner = el("span", { role: "columnheader", class: "corner" }, "Layer");
    const end = el(
        "span",
        { role: "columnheader", class: "imbalance", title: "The largest load of the layer over the even share" },
        "Largest",
    );
    return el("div", { role: "row", class: "heat-head" }, corner, ...columns, end);
}

function showLoad(cell, rows, total, mean) {
    const shade = total === 0 ? "none" : Math.min(Math.floor((rows / mean / 2) * SHADES), SHADES - 1);
    setAttribute(cell, "data-shade", shade);
    cell.style.backgroundImage = "";
    setText(cell, total === 0 ? "" : ((100 * rows) / total).toFixed(1));
    delete cell.dataset.holders;
}

function showHolders(cell, ranks) {
    if (cell.dataset.holders === ranks.join(" ")) return;
    cell.dataset.holders = ranks.join(" ");
    cell.removeAttribute("data-shade");
    const share = 100 / ranks.length;
    const stripes = ranks.map((rank, index) => `${rankColour(rank)} ${share * index}% ${share * (index + 1)}%`);
    cell.style.backgroundImage = `linear-gradient(90deg, ${stripes.join(", ")})`;
    cell.replaceChildren(...ranks.map((rank) => el("span", {}, String(rank))));
}

/** The colour of a rank; from the ninth on they come again, so a rank's number stands beside it. */
export const rankColour = (rank) => `var(--rank-${rank % RANK_COLOURS})`;
