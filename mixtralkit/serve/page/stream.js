/** Server-sent events over fetch (EventSource can neither POST nor carry a key), and the pieces of an answer. */

import { brokenStream, streamError } from "./api.js";

/**
 * The data of each event of a response, as it arrives.
 * @param {Response} response
 * @returns {AsyncGenerator<string>}
 */
export async function* eventData(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = [];
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            const lines = (rest + value).split(/\r?\n/);
            rest = lines.pop();
            for (const line of lines) {
                if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
                if (line !== "" || data.length === 0) continue;
                yield data.join("\n");
                data = [];
            }
        }
    } finally {
        reader.cancel().catch(() => {}); // it has ended, was aborted, or nobody wants the rest
    }
}

/**
 * The pieces of a streamed answer of /v1/chat/completions or /v1/completions.
 * @param {Response} response
 * @returns {AsyncGenerator<{text: string, finish: ?string, tokens: ?number}>} `tokens` is the count of the whole
 *     answer, in the last piece, where the server tells it
 * @throws {ApiError} when the stream carries an error, or ends before `[DONE]`
 */
export async function* pieces(response) {
    for await (const data of eventData(response)) {
        if (data === "[DONE]") return;
        const chunk = parsed(data);
        if (chunk.error) throw streamError(chunk.error);
        const choice = chunk.choices?.[0];
        yield {
            text: choice?.delta?.content ?? choice?.text ?? "",
            finish: choice?.finish_reason ?? null,
            tokens: chunk.usage?.completion_tokens ?? null,
        };
    }
    throw brokenStream();
}

function parsed(data) {
    try {
        return JSON.parse(data);
    } catch {
        throw brokenStream(); // something between here and the server has cut it
    }
}
