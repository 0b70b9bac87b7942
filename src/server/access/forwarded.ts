/** Headers that proxies add. */
const FORWARDING = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'via'];
/** Headers that browsers add to what a page asks for. */
const BROWSERS = ['origin', 'sec-fetch-site'];

/** Whether somebody else is behind a request than who sent it, by its headers: a proxy's client, or a web page. */
export function isForwarded(hasHeader: (name: string) => boolean): boolean {
  return FORWARDING.some(hasHeader) || isFromPage(hasHeader);
}

/** Whether a web page had a browser make a request, by its headers. */
export function isFromPage(hasHeader: (name: string) => boolean): boolean {
  return BROWSERS.some(hasHeader);
}
