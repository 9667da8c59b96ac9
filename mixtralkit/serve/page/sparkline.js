/** A small line of a value over the last two minutes, or as much of them as there is. */

import { setAttribute, svg } from "./dom.js";

const SPAN = 120; // seconds
const LEAST = 30; // seconds that the line is wide at least
const GAP = 4; // seconds without a value that are a gap in the line
const WIDTH = 240;
const HEIGHT = 40;

export class Sparkline {
    /**
     * @param {Element} place
     * @param {string} name what the line is of
     * @param {function(number): string} inWords a value with its unit
     */
    constructor(place, name, inWords) {
        this.name = name;
        this.inWords = inWords;
        this.area = svg("path", { class: "area" });
        this.line = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });
        const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" };
        this.picture = svg("svg", box, this.area, this.line);
        place.append(this.picture);
    }

    /** @param {{time: number, value: number}[]} points in the order of time, in seconds */
    show(points) {
        const now = points.at(-1)?.time ?? 0;
        const shown = points.filter(({ time }) => time >= now - SPAN);
        const span = Math.max(LEAST, now - (shown[0]?.time ?? now));
        const highest = Math.max(...shown.map(({ value }) => value), Number.MIN_VALUE);
        const strokes = runs(shown).map((run) => run.map((point) => at(point, now, span, highest)));
        setAttribute(this.line, "d", strokes.map((stroke) => `M${stroke.join("L")}`).join(""));
        setAttribute(this.area, "d", strokes.map(closed).join(""));
        setAttribute(this.picture, "aria-label", this.#words(shown, highest));
    }

    #words(points, highest) {
        if (points.length === 0) return `${this.name}: nothing yet`;
        const now = this.inWords(points.at(-1).value);
        return `${this.name}: now ${now}, at most ${this.inWords(highest)} in the last two minutes`;
    }
}

/** The points in runs without gaps. */
function runs(points) {
    const all = [];
    for (const point of points) {
        const run = all.at(-1);
        if (run && point.time - run.at(-1).time <= GAP) run.push(point);
        else all.push([point]);
    }
    return all;
}

const at = ({ time, value }, now, span, highest) =>
    `${(WIDTH * (1 - (now - time) / span)).toFixed(1)} ${((HEIGHT - 3) * (1 - value / highest) + 1.5).toFixed(1)}`;

/** A stroke as an area down to the ground. */
function closed(stroke) {
    const x = (point) => point.split(" ")[0];
    return `M${x(stroke[0])} ${HEIGHT}L${stroke.join("L")}L${x(stroke.at(-1))} ${HEIGHT}Z`;
}
