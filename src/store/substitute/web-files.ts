import type { Patience } from '../../util/async/retry.ts';
import type { CacheAddress } from './address.ts';
import { HTTP_PATIENCE } from './http-client.ts';
import { HttpCacheFiles } from './http-files.ts';
import { credentialsFor } from './netrc.ts';

/** A place on the web, and what is shown and trusted there. */
export type WebPlace = Pick<CacheAddress, 'credentials' | 'netrcFile' | 'ca'> & { readonly place: URL };

/** The files at a place on the web; nothing is asked for yet. */
export function webFiles(place: WebPlace, { awayMs, firstAnswerMs }: Patience): HttpCacheFiles {
  const secrets = { credentials: credentialsFor(place), ca: place.ca };
  return new HttpCacheFiles(place.place, secrets, { ...HTTP_PATIENCE, awayMs, firstAnswerMs });
}
