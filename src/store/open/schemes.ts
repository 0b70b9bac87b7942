/** A scheme of addresses. */
interface Scheme {
  /** How such an address is written. */
  readonly form: string;
  /** In a few words, for help and documentation. */
  readonly about: string;
  /** The kind of store, as compositions name it: an entry of `KINDS`. */
  readonly type: string;
}

/** Every scheme that the address of a store can have. */
export const SCHEMES: Readonly<Record<string, Scheme>> = {
  local: { form: 'local:///dir', about: 'the local store in a directory', type: 'local' },
  lmdb: { form: 'lmdb:///dir', about: 'another name for local', type: 'local' },
  memory: {
    form: 'memory://',
    about: 'an empty store in memory, gone when the command ends',
    type: 'memory',
  },
  'grpc+http': { form: 'grpc+http://host[:port]', about: 'a daemon; port 80 if none is given', type: 'grpc' },
  'grpc+https': {
    form: 'grpc+https://host[:port]',
    about: 'a daemon over TLS; port 443 if none is given',
    type: 'grpc',
  },
  'grpc+unix': { form: 'grpc+unix:///path', about: 'a daemon on a unix socket', type: 'grpc' },
  'nix+https': {
    form: 'nix+https://host[/path]',
    about: 'a binary cache of Nix, read-only',
    type: 'nix',
  },
  'nix+http': { form: 'nix+http://host[/path]', about: 'a binary cache without TLS', type: 'nix' },
  'nix+file': { form: 'nix+file:///dir', about: 'a binary cache in a directory', type: 'nix' },
  'nix+s3': {
    form: 'nix+s3://bucket[/prefix]',
    about: 'a binary cache of Nix in a bucket, read-only',
    type: 'nix',
  },
  'nix-store': {
    form: 'nix-store:///nix/store',
    about: 'the store of the Nix on this machine, read-only, read where it is',
    type: 'nix-store',
  },
  cache: {
    form: 'cache://?near=URL&far=URL',
    about: 'a far store, with a near one that keeps copies of what is read',
    type: 'cache',
  },
  combined: {
    form: 'combined://?near=URL&far=URL',
    about: 'a near store, and a far one that is asked for what the near one does not have',
    type: 'combined',
  },
  replicas: {
    form: 'replicas://?of=URL&of=URL',
    about: 'several stores with the same contents: the first that is there, the next when that is slow',
    type: 'replicas',
  },
  mirrored: {
    form: 'mirrored://?store=URL&mirrors=URL',
    about: 'a store, whose contents are read from the fastest of its mirrors',
    type: 'mirrored',
  },
  'objectstore+s3': {
    form: 'objectstore+s3://bucket[/prefix]',
    about: 'a bucket in S3 or a service with the same protocol',
    type: 'objectstore',
  },
  'objectstore+file': {
    form: 'objectstore+file:///dir',
    about: 'a directory with the layout of a bucket',
    type: 'objectstore',
  },
  'objectstore+https': {
    form: 'objectstore+https://host[/path]',
    about: 'the layout of a bucket on any web server, read-only',
    type: 'objectstore',
  },
  'objectstore+http': {
    form: 'objectstore+http://host[/path]',
    about: 'the same without TLS',
    type: 'objectstore',
  },
  'objectstore+memory': {
    form: 'objectstore+memory:///',
    about: 'the layout of a bucket in memory, gone when the command ends',
    type: 'objectstore',
  },
  lru: {
    form: 'lru://?capacity=N',
    about: 'the N path infos that were used last, in memory',
    type: 'lru',
  },
  'keyfile-signing': {
    form: 'keyfile-signing://?inner=URL&keyfile=FILE',
    about: 'a store that verifies and signs what is added to it',
    type: 'keyfile-signing',
  },
};

/** The schemes of a kind of store, as they begin an address. */
export function schemesOf(type: string): string[] {
  return Object.keys(SCHEMES)
    .filter((scheme) => SCHEMES[scheme]!.type === type)
    .map((scheme) => `${scheme}://`);
}
