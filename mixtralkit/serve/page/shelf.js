/** The browser's storages, which may be full or forbidden: then nothing is kept, and nothing breaks. */

class Shelf {
    /** @param {function(): Storage} storage to ask for it may throw */
    constructor(storage) {
        this.storage = storage;
    }

    /** The text under `key`, or null. */
    get(key) {
        return this.#attempt((storage) => storage.getItem(key)) ?? null;
    }

    /** Whether there was room for the text. */
    set(key, text) {
        return this.#attempt((storage) => (storage.setItem(key, text), true)) ?? false;
    }

    remove(key) {
        this.#attempt((storage) => storage.removeItem(key));
    }

    keys() {
        return this.#attempt((storage) => Object.keys(storage)) ?? [];
    }

    #attempt(action) {
        try {
            return action(this.storage());
        } catch {
            return undefined;
        }
    }
}

/** Kept in this browser. */
export const browserShelf = new Shelf(() => localStorage);

/** Kept until the tab is closed. */
export const tabShelf = new Shelf(() => sessionStorage);
