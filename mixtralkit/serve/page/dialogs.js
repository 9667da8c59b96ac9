/** The two questions of the page, as modal dialogs: the browser keeps the focus inside and gives it back afterwards. */

import { byId } from "./dom.js";

/** Shows a dialog; resolves to the value of the button that closed it, "" for Escape. */
function answerTo(dialog) {
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    });
}

/**
 * Asks for the API key.
 * @param {string} why
 * @returns {Promise<string|null>} null when the reader declines
 */
export async function askForKey(why) {
    const input = byId("key");
    byId("key-why").textContent = why;
    input.value = "";
    const answer = await answerTo(byId("key-dialog"));
    const key = input.value.trim();
    input.value = "";
    return answer === "use" && key !== "" ? key : null;
}

/**
 * Asks whether a conversation is to be deleted.
 * @param {string} title
 * @returns {Promise<boolean>}
 */
export async function confirmDelete(title) {
    byId("delete-title").textContent = title;
    return (await answerTo(byId("delete-dialog"))) === "delete";
}
