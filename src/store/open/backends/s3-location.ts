import type { S3Location } from '../../../castore/objects/s3.ts';
import { UsageError } from '../../../util/errors.ts';
import { authorityIn } from '../../../util/system/authorities.ts';

/** Parameters by their names; in the address they may begin with `aws_`, in any case. */
const PARAMETERS = [
  'endpoint',
  'region',
  'access_key_id',
  'secret_access_key',
  'session_token',
  'profile',
  'virtual_hosted_style_request',
  'allow_http',
  'skip_signature',
  'ca',
] as const;
type Parameter = (typeof PARAMETERS)[number];

/** Other names for them: AWS's, and those that the Rust implementation takes as well. */
const ALIASES: Record<string, Parameter> = {
  endpoint_url: 'endpoint',
  default_region: 'region',
  token: 'session_token',
};

/** Reads `objectstore+s3://bucket/prefix?…`. */
export function s3Location(url: URL): S3Location {
  // Without the parameters, which may hold a key.
  const address = `${url.protocol}//${url.host}${url.pathname}`;
  const wrong: Wrong = (what) => new UsageError(`${address}: ${what}`);
  if (!url.host) throw wrong('name a bucket, as in objectstore+s3://bucket/prefix');
  const given = parametersOf(url, wrong);
  const flag = (name: Parameter) => {
    const value = given[name] ?? 'false';
    if (value !== 'true' && value !== 'false') throw wrong(`${name} is true or false`);
    return value === 'true';
  };
  const allowHttp = flag('allow_http');
  const { endpoint } = given;
  if (endpoint !== undefined && !/^https?:\/\/[^/]/.test(endpoint))
    throw wrong('aws_endpoint is a URL such as https://s3.example');
  if (endpoint?.startsWith('http:') && !allowHttp)
    throw wrong('aws_endpoint is not encrypted; add aws_allow_http=true if that is meant');
  const prefix = decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, '');
  return {
    address,
    bucket: url.host,
    prefix: prefix === '' ? '' : `${prefix}/`,
    endpoint,
    region: given.region,
    profile: given.profile,
    virtualHosted: flag('virtual_hosted_style_request'),
    anonymous: flag('skip_signature'),
    credentials: credentialsOf(given, wrong),
    ca: authorityIn(given.ca),
  };
}

type Parameters = { readonly [name in Parameter]?: string };
type Wrong = (what: string) => UsageError;

function credentialsOf(given: Parameters, wrong: Wrong): S3Location['credentials'] {
  const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, session_token: token } = given;
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    throw wrong('aws_access_key_id and aws_secret_access_key go together');
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return { accessKeyId, secretAccessKey, ...(token === undefined ? {} : { sessionToken: token }) };
}

function parametersOf(url: URL, wrong: Wrong): Parameters {
  const given: { [name in Parameter]?: string } = {};
  // A plus sign is one: keys have them.
  for (const [written, value] of new URLSearchParams(url.search.replaceAll('+', '%2B'))) {
    const name = written.toLowerCase().replace(/^aws_/, '');
    const parameter = ALIASES[name] ?? PARAMETERS.find((one) => one === name);
    if (!parameter) {
      const allowed = PARAMETERS.map((one) => `aws_${one}`).join(', ');
      throw wrong(`unknown parameter ${JSON.stringify(written)}; allowed are ${allowed}`);
    }
    given[parameter] = value;
  }
  return given;
}
