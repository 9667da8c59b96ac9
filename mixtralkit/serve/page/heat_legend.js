/** What the heatmap's colours mean. */

import { el } from "./dom.js";
import { rankColour } from "./heatmap.js";

const SHADES = 9;

/**
 * @param {Element} element
 * @param {"load"|"placement"} view
 * @param {number} ranks
 */
export function showLegend(element, view, ranks) {
    const key = `${view} ${ranks}`;
    if (element.dataset.key === key) return;
    element.dataset.key = key;
    element.replaceChildren(...(view === "load" ? loadLegend() : placementLegend(ranks)));
}

function loadLegend() {
    const swatches = Array.from({ length: SHADES }, (_, shade) =>
        el("i", { class: "swatch", "data-shade": String(shade) }),
    );
    const scale = el("span", { class: "scale", "aria-hidden": "true" }, ...swatches);
    const words = el(
        "span",
        { class: "scale-words" },
        el("span", {}, "no rows"),
        el("span", {}, "even share"),
        el("span", {}, "twice or more"),
    );
    const replicas = el(
        "span",
        { class: "key" },
        el("i", { class: "swatch", "data-copies": "true" }),
        "held by several ranks",
    );
    return [el("span", { class: "scale-box" }, scale, words), replicas];
}

function placementLegend(ranks) {
    return Array.from({ length: ranks }, (_, rank) => {
        const swatch = el("i", { class: "swatch" });
        swatch.style.background = rankColour(rank);
        return el("span", { class: "key" }, swatch, `rank ${rank}`);
    });
}
