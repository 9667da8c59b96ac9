/** The page's parts, put together. */

import { Announcer } from "./announcer.js";
import { Api } from "./api.js";
import { Bottom } from "./bottom.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { ConversationHead } from "./conversation_head.js";
import { ConversationList } from "./conversation_list.js";
import { isConversationKey } from "./conversations.js";
import { askForKey } from "./dialogs.js";
import { byId } from "./dom.js";
import { closePopover, joinDrawer } from "./drawer.js";
import { Machine } from "./machine.js";
import { SettingsForm } from "./settings.js";
import { Status } from "./status.js";
import { joinTabs } from "./tabs.js";
import { Thread } from "./thread.js";

const FULL = "The browser has no more room: this conversation is not kept. Export it, or delete others.";

const api = new Api(askForKey);
const settings = new SettingsForm(byId("settings-form"), () => byId("settings-button").click());

const chat = new Chat({
    api,
    settings,
    model: async () => (await status.model()).id,
    thread: new Thread(byId("thread"), () => chat.regenerate()),
    list: new ConversationList(byId("conversation-list"), (id) => leaveList(() => chat.open(id))),
    head: new ConversationHead(byId("head"), { renamed: () => chat.renamed(), deleted: () => chat.deleted() }),
    composer: new Composer(byId("composer"), {
        send: (text) => chat.send(text),
        stop: () => chat.stop(),
        mode: (mode) => chat.setMode(mode),
    }),
    announcer: new Announcer(byId("announcements")),
    bottom: new Bottom(byId("thread"), byId("latest")),
    onFull: () => (byId("room").textContent = FULL),
});

const status = new Status(byId("status"), api, (model) => {
    byId("welcome-model").textContent = model;
});
const machine = new Machine(api, (state) => status.show(state));

function leaveList(then) {
    closePopover(byId("conversations"));
    then();
}

const wide = matchMedia("(min-width: 60rem)");
joinDrawer(byId("conversations"), byId("conversations-button"), wide, true);
joinDrawer(byId("settings"), byId("settings-button"), matchMedia("(min-width: 80rem)"), true);
byId("new").addEventListener("click", () => leaveList(() => chat.openNew()));
addEventListener("storage", ({ key }) => {
    if (isConversationKey(key)) chat.storedElsewhere();
});
joinTabs(document.querySelector("[role=tablist]"), (panel) => {
    machine.show(panel === "machine");
    if (panel === "chat") chat.show();
});
if (wide.matches && !byId("chat").hidden) chat.composer.focus(); // elsewhere it would open a keyboard over the page
status.watch();
