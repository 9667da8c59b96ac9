/** Tabs as the ARIA practices describe them: one is in the tab order, arrow keys, Home and End go to the others. */

import { byId } from "./dom.js";

/**
 * Joins the tabs of `list` with their panels and with the address (#machine), so that one can be linked to.
 * @param {Element} list
 * @param {function(string)} onSelect is called with the panel's id
 */
export function joinTabs(list, onSelect) {
    const tabs = [...list.querySelectorAll("[role=tab]")];
    const panelOf = (tab) => tab.getAttribute("aria-controls");

    const select = (chosen) => {
        for (const tab of tabs) {
            tab.setAttribute("aria-selected", tab === chosen);
            tab.tabIndex = tab === chosen ? 0 : -1;
            byId(panelOf(tab)).hidden = tab !== chosen;
        }
        onSelect(panelOf(chosen));
    };
    const choose = (tab) => {
        history.replaceState(null, "", `#${panelOf(tab)}`);
        select(tab);
    };
    const fromAddress = () => select(tabs.find((tab) => `#${panelOf(tab)}` === location.hash) ?? tabs[0]);

    list.addEventListener("click", (event) => {
        const tab = event.target.closest("[role=tab]");
        if (tab) choose(tab);
    });
    list.addEventListener("keydown", (event) => {
        const next = target(tabs, tabs.indexOf(document.activeElement), event.key);
        if (!next) return;
        event.preventDefault();
        next.focus();
        choose(next);
    });
    addEventListener("hashchange", fromAddress);
    fromAddress();
}

function target(tabs, index, key) {
    const steps = { ArrowRight: index + 1, ArrowLeft: index - 1 + tabs.length, Home: 0, End: tabs.length - 1 };
    return key in steps ? tabs[steps[key] % tabs.length] : null;
}
