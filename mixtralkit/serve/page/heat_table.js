/** The heatmap's numbers as a table, made when the reader opens it and kept up to date while it is open. */

import { el, setText } from "./dom.js";
import { count, percent, ranksInWords } from "./numbers.js";

export class HeatTable {
    #cells_LE = [];
    #load = null;

    /** @param {HTMLDetailsElement} details */
    constructor(details) {
        this.details = details;
        this.place = details.querySelector("[role=region]");
        details.addEventListener("toggle", () => this.#show());
    }

    /** Takes the newest numbers. */
    show(rows_LE, holders_LE) {
        this.#load = { rows_LE, holders_LE };
        this.#show();
    }

    #show() {
        if (!this.details.open || this.#load === null) return;
        const { rows_LE, holders_LE } = this.#load;
        const experts = rows_LE[0]?.length ?? 0;
        if (this.#cells_LE.length !== rows_LE.length || (this.#cells_LE[0]?.length ?? 0) !== experts)
            this.#build(rows_LE.length, experts);
        rows_LE.forEach((rows_E, layer) => {
            const total = rows_E.reduce((sum, rows) => sum + rows, 0);
            rows_E.forEach((rows, expert) =>
                setText(this.#cells_LE[layer][expert], cellText(rows, total, holders_LE[layer][expert])),
            );
        });
    }

    #build(layers, experts) {
        const heads = Array.from({ length: experts }, (_, expert) => el("th", { scope: "col" }, `Expert ${expert}`));
        this.#cells_LE = Array.from({ length: layers }, () => Array.from({ length: experts }, () => el("td")));
        const rows = this.#cells_LE.map((cells_E, layer) =>
            el("tr", {}, el("th", { scope: "row" }, `Layer ${layer}`), ...cells_E),
        );
        const caption = el("caption", {}, "Share of the layer’s rows, rows, and the ranks that hold the expert");
        this.place.replaceChildren(
            el("table", {}, caption, el("thead", {}, el("tr", {}, el("td"), ...heads)), el("tbody", {}, ...rows)),
        );
    }
}

const cellText = (rows, total, ranks) =>
    `${percent(total === 0 ? 0 : rows / total)} · ${count(rows)} · ${ranksInWords(ranks)}`;
