/** Numbers as people read them. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 1,204 */
export const count = (value) => whole.format(value);

/** Three figures or so, and no decimals where they would not be read: 0, 0.52, 8.31, 42.7, 312, 1,204. */
export function rate(value) {
    if (value >= 100 || value === 0) return whole.format(value);
    return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** 0.9 ms, 12.1 ms, 312 ms, 1.42 s */
export function duration(seconds) {
    if (seconds >= 1) return `${rate(seconds)} s`;
    const milliseconds = seconds * 1000;
    return `${milliseconds >= 100 ? whole.format(milliseconds) : milliseconds.toFixed(1)} ms`;
}

/** A share as 12.5 % */
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

/** One form or the other: plural(1, "token", "tokens"). */
export const plural = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;

/**
 * Sorted whole numbers with their runs drawn together: 0–3, 6.
 * @param {number[]} values
 */
export function ranges(values) {
    const runs = [];
    for (const value of values) {
        const run = runs.at(-1);
        if (run && value === run[1] + 1) run[1] = value;
        else runs.push([value, value]);
    }
    return runs.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}

/** rank 0; ranks 0 and 2; ranks 0, 1 and 2 */
export function ranksInWords(ranks) {
    if (ranks.length === 0) return "no rank";
    if (ranks.length === 1) return `rank ${ranks[0]}`;
    return `ranks ${ranks.slice(0, -1).join(", ")} and ${ranks.at(-1)}`;
}
