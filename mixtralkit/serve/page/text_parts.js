/** A model's text: plain, with its newlines kept; fenced code stands in a box. Only text nodes are made of it. */

import { el } from "./dom.js";

/**
 * Text and code in turn. A fence that is still open holds all that follows: so it is while an answer streams in.
 * @param {string} text
 * @returns {{code: boolean, text: string}[]}
 */
export function textParts(text) {
    const parts = [{ code: false, text: [] }];
    for (const line of text.split("\n")) {
        const inside = parts.at(-1).code;
        if (inside ? /^\s*```\s*$/.test(line) : /^\s*```[\w+#.-]*\s*$/.test(line))
            parts.push({ code: !inside, text: [] });
        else parts.at(-1).text.push(line);
    }
    return parts.map(joined).filter((part) => part.text !== "");
}

/** A part's lines as one text, without the empty lines before an answer and beside a box, which has its own margin. */
function joined({ code, text: lines }, index, { length }) {
    let text = lines.join("\n");
    if (!code) text = text.replace(/^\n+/, "");
    if (!code && index < length - 1) text = text.replace(/\s+$/, "");
    return { code, text };
}

/** Shows `text` in `element`. What is there of an earlier call is kept, so that a growing text is cheap. */
export function showText(element, text) {
    const parts = textParts(text);
    parts.forEach((part, index) => showPart(element, element.children[index], part));
    while (element.children.length > parts.length) element.lastElementChild.remove();
}

function showPart(element, shown, { code, text }) {
    if (shown && (shown.tagName === "PRE") === code) {
        if (shown.textContent !== text) shown.firstChild.data = text;
        return;
    }
    const made = code
        ? el("pre", { tabindex: "0", role: "region", "aria-label": "Code" }, text)
        : el("p", { class: "prose", dir: "auto" }, text);
    if (shown) shown.replaceWith(made);
    else element.append(made);
}
