import { subscribe } from 'node:diagnostics_channel';

/**
 * Node (22.19 and 26.12, at least) ends the process when the garbage of an HTTP/2 session is collected in one go with a stream of it
 * that has got headers without their end: the assertion is `current_nghttp2_memory_ == 0`. So any peer that broke off within
 * its headers, or never came to their end, could end a mount. Here the inner side of a session is kept for as long as that
 * of each of its streams. Where Node has no such sides any more this does nothing, and a test would notice.
 */
const kept = new FinalizationRegistry(() => {});

subscribe('http2.client.stream.created', (message) => {
  const { stream } = message as { stream: { readonly session: object | undefined } };
  const session = stream.session && innerSide(stream.session);
  // The stream has its own in a moment.
  queueMicrotask(() => {
    const inner = innerSide(stream);
    if (inner && session) kept.register(inner, session);
  });
});

/** The part of an object of `node:http2` that is not written in JavaScript. */
function innerSide(outer: object): object | undefined {
  const symbol = Object.getOwnPropertySymbols(outer).find(({ description }) => description === 'kHandle');
  return symbol && (outer as { readonly [name: symbol]: object | undefined })[symbol];
}
