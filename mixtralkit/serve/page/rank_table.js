/** The table of the ranks: rows of their experts, the experts they hold, and how they are. */

import { el, setAttribute, setText } from "./dom.js";
import { count, duration, percent, ranges, rate } from "./numbers.js";

const COLUMNS = ["rows", "holds", "sent", "dispatch", "step"];

/**
 * Shows the ranks of a state with their work.
 * @param {HTMLTableElement} table
 * @param {object} state
 * @param {Work} work
 */
export function showRanks(table, state, work) {
    const body = table.tBodies[0];
    if (body.rows.length !== state.ranks.length) body.replaceChildren(...state.ranks.map(emptyRow));
    const most = Math.max(1, ...work.ranks.map(({ rows }) => rows));
    state.ranks.forEach((rank, index) => {
        const row = body.rows[index];
        const done = work.ranks[index];
        showName(row, rank);
        setText(row.querySelector(".rows .number"), `${rate(done.rows / work.seconds)}/s`);
        row.querySelector(".amount").value = done.rows / most;
        showHeld(row, heldBy(state.holders_LE, rank.rank), state.num_experts);
        setText(row.querySelector(".sent"), `${rate(done.tokens_rows / work.seconds)}/s`);
        setText(row.querySelector(".dispatch"), percent(done.dispatch_seconds / work.seconds));
        setText(row.querySelector(".step"), lastStep(rank));
    });
}

function emptyRow(rank) {
    const name = el(
        "th",
        { scope: "row" },
        el("span", { class: "dot" }),
        el("span", { class: "name" }),
        el("span", { class: "small" }),
    );
    const cells = COLUMNS.map((column) => el("td", { class: column }));
    const bar = el("meter", { class: "amount", min: "0", max: "1", "aria-hidden": "true" });
    cells[0].append(el("span", { class: "number" }), bar);
    cells[1].append(el("span", { class: "experts" }), el("span", { class: "small" }));
    return el("tr", { "data-rank": String(rank.rank) }, name, ...cells);
}

function showName(row, { rank, host, up }) {
    setText(row.querySelector(".name"), `Rank ${rank}`);
    setText(row.querySelector("th .small"), up ? host : `${host}, not there`);
    setAttribute(row.querySelector(".dot"), "data-state", up ? "ready" : "failed");
}

function lastStep({ up, seconds_since_step: seconds }) {
    if (!up) return "not there";
    return seconds === null ? "none yet" : `${duration(seconds)} ago`;
}

/**
 * What a rank holds of a placement.
 * @returns {{held_L: number[][], replicated: number}} its experts by layer, and how many (layer, expert) of them are
 *     held by other ranks too
 */
export function heldBy(holders_LE, rank) {
    let replicated = 0;
    const held_L = holders_LE.map((holders_E) =>
        holders_E.flatMap((holders, expert) => {
            if (!holders.includes(rank)) return [];
            if (holders.length > 1) replicated += 1;
            return [expert];
        }),
    );
    return { held_L, replicated };
}

function showHeld(row, { held_L, replicated }, num_experts) {
    const lists = held_L.map(ranges);
    const held = held_L.reduce((sum, experts) => sum + experts.length, 0);
    const same = lists.every((list) => list === lists[0]);
    setText(
        row.querySelector(".experts"),
        same ? lists[0] || "none" : `${count(held)} of ${count(held_L.length * num_experts)}`,
    );
    const notes = [same ? "in every layer" : "over all layers"];
    if (replicated > 0) notes.push(`${count(replicated)} replicated`);
    setText(row.querySelector(".holds .small"), notes.join(", "));
}
