import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { tvixStore } from '../helpers/cli.ts';
import { inProcess } from '../helpers/in-process.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const COMMANDS = [
  'import',
  'mount',
  'virtiofs',
  'nar-bridge',
  'nix-daemon',
  'token',
  'ls',
  'cat',
  'diff',
  'path-info',
  'nix-db',
  'key',
  'sign',
  'verify',
  'composition',
  'realise',
  'copy',
  'warm',
  'profile',
  ...['root', 'gc', 'why', 'fsck', 'backup', 'restore', 'compact', 'upgrade', 'stats', 'du'],
];
const HASH = '00bgd045z0d4icpbc2yyz4gx48ak44la';

describe('help', () => {
  test.each([
    ...COMMANDS,
    'key generate',
    'key public',
    'composition check',
    'composition show',
    'root add',
    'root remove',
    'token add',
    'token remove',
    'token anonymous',
    'token list',
    'profile show',
    'profile export',
    'profile import',
  ])('of %s has an example, and is no failure', async (command) => {
    const { status, stdout, stderr } = await inProcess([...command.split(' '), '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`Example:\\n {2}tvix-store ${command}`));
    expect(stderr).toBe('');
  });

  test('names every command', async () => {
    const { status, stdout } = await inProcess(['--help']);
    expect(status).toBe(0);
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${command}[ |]`, 'm'));
  });

  test('of the version is a version', async () => {
    expect(await tvixStore(['--version'])).toEqual({ status: 0, stdout: '0.1.0\n', stderr: '' });
  });
});

const dir = tempDir();
const store = `local://${dir}/store`;
const PATH = `${HASH}-name`;
const FILE = join(dir, 'file');
beforeAll(async () => {
  await localStore(join(dir, 'store')).close();
  writeFileSync(FILE, 'contents');
});

/** Every command and the arguments that it cannot do without. */
const REQUIRED: readonly (readonly [string, string])[] = [
  ['import', 'PATH'],
  ['mount', 'DIRECTORY'],
  ['virtiofs', 'SOCKET'],
  ['cat', 'STORE_PATH/SUB'],
  ['diff', 'STORE_PATH[/SUB]'],
  ['diff PATH', 'OTHER[/SUB]'],
  ['nix-db', 'STORE_PATH'],
  ['why', 'STORE_PATH'],
  ['nar dump', 'STORE_PATH[/SUB]'],
  ['nar ls', 'STORE_PATH[/SUB]'],
  ['nar export', 'STORE_PATH'],
  ['nar import --name x', 'FILE|-'],
  ['key generate', 'NAME'],
  ['sign --all', '--key-file <file>'],
  ['sign --key-file FILE', 'STORE_PATH arguments, or --all'],
  ['verify', 'STORE_PATH arguments, or --all'],
  ['du', 'STORE_PATH arguments, or --all'],
  ['composition check', 'FILE'],
  ['composition show', 'FILE'],
  ['realise', 'STORE_PATH'],
  ['realise PATH', 'DIRECTORY'],
  ['copy', 'STORE_PATH arguments, or --all'],
  ['warm', 'STORE_PATH'],
  ['copy PATH', '--from, --to or both'],
  ['root add', 'NAME'],
  ['root add x', 'STORE_PATH'],
  ['root remove', 'NAME'],
];

const TRUSTED = String(SecretKey.generate('key-1').publicKey);

/** Wrong values of arguments and flags, by command, and what is said of them. */
const WRONG: readonly (readonly [string, string])[] = [
  ['frobnicate', "unknown command 'frobnicate'"],
  ['nar frobnicate', "unknown command 'frobnicate'"],
  ['daemon --metrics-listen nowhere', 'Cannot listen on "nowhere"; want host:port'],
  ['daemon --metrics-listen sd-listen', 'name one, sd-listen:NAME'],
  ['--log-format xml ls', 'Allowed choices are text, json'],
  ['--log-level loud ls', 'Allowed choices are debug, info'],
  ['import --frobnicate .', "unknown option '--frobnicate'"],
  ['import --store memory: --name', 'argument missing'],
  ['import --name one a b', '--name needs exactly one PATH'],
  ['import --name a/b FILE', 'The name "a/b" contains "/"'],
  ['import /', '--name'],
  ['import --signing-key-file /none/key FILE', '/none/key: no such file or directory'],
  ['mount --readers 0 DIR', 'Want a whole number from 1 to 16.'],
  ['mount --readers 1.5 DIR', 'Want a whole number from 1 to 16.'],
  ['mount -o ro,frobnicate DIR', '-o frobnicate is not known'],
  ['mount -o rw DIR', '-o rw is not possible: the store is read-only'],
  ['mount --uid nobody-of-this-name DIR', 'There is no user of this name.'],
  ['mount --gid 4294967295 DIR', 'Want a number of at most 4294967294.'],
  ['mount --driver none DIR', 'Allowed choices are kernel, fuse-native'],
  ['mount --verify none DIR', 'Allowed choices are chunks, whole'],
  ['mount --cache-size large DIR', 'Write a size such as 4096B, 500M'],
  ['mount --cache-size 5 DIR', 'A number needs a unit; write a size such as 4096B, 500M'],
  ['mount --cache-size 99999999T DIR', 'too large'],
  ['mount --timeout 30 DIR', 'A number needs a unit; write a duration such as 30s, 90m'],
  ['mount --hard --timeout 5s DIR', "option '--hard' cannot be used with option '--timeout <duration>'"],
  ['mount --timeout 2d DIR', 'Want a duration from 1s to 1d.'],
  ['virtiofs --timeout 30 DIR/socket', 'A number needs a unit'],
  ['virtiofs --socket-mode 9 DIR/socket', 'Want an octal mode such as 0660.'],
  [`virtiofs /${'long'.repeat(40)}`, 'long'],
  ['daemon -l nowhere', 'want host:port'],
  ['daemon -l 127.0.0.1:99999', 'want host:port'],
  ['daemon --socket-mode 0999', 'Want an octal mode'],
  ['daemon --socket-uid root', 'Want a whole number'],
  ['daemon --tls-cert FILE', '--tls-cert and --tls-key go together'],
  ['daemon --tls-client-ca FILE', '--tls-client-ca needs'],
  ['daemon --tls-cert /none/cert --tls-key FILE', '/none/cert: no such file or directory'],
  ['daemon --tls-cert FILE --tls-key FILE', 'is not a certificate chain in PEM'],
  ['daemon --tokens /none/tokens', '/none/tokens: no such file or directory'],
  ['daemon --read-only --allow-anonymous-upload', '--read-only'],
  ['nar-bridge --priority high', 'Want a whole number'],
  ['nar-bridge --compress gzip', 'Allowed choices are zstd'],
  ['ls a b', 'too many arguments'],
  ['ls garbage', 'not a store path: "garbage"'],
  ['ls --all PATH', 'either a STORE_PATH or --all'],
  ['ls PATH/../x', '".." cannot be used inside a store path'],
  ['diff PATH garbage', 'not a store path: "garbage"'],
  ['cat garbage', 'not a store path: "garbage"'],
  ['cat a b', 'too many arguments'],
  ['path-info garbage', 'not a store path: "garbage"'],
  ['path-info --all PATH', 'either STORE_PATH arguments or --all'],
  ['nix-db PATH garbage', 'not a store path: "garbage"'],
  ['nar dump garbage', 'not a store path: "garbage"'],
  ['nar ls garbage', 'not a store path: "garbage"'],
  ['nar export garbage', 'not a store path: "garbage"'],
  ['nar-bridge --serve-signing-key-file FILE --allow-anonymous-upload', 'anybody could have anything signed'],
  ['nar-bridge --serve-signing-key-file FILE', 'cannot use the secret key'],
  ['nar import --name a/b FILE', 'The name "a/b" contains "/"'],
  ['key generate a:b', 'the name of a key cannot be "a:b"'],
  ['key public a', 'too many arguments'],
  ['key public --file /none/key', '/none/key: no such file or directory'],
  ['key public --file DIR', 'is a directory'],
  ['sign -k /none/key --all', '/none/key: no such file or directory'],
  ['sign -k KEY --remove name --all', '--remove'],
  ['sign -k KEY garbage', 'not a store path: "garbage"'],
  ['sign -k KEY --all PATH', 'either STORE_PATH arguments or --all'],
  ['verify garbage', 'not a store path: "garbage"'],
  ['verify --all PATH', 'either STORE_PATH arguments or --all'],
  ['verify --all --trusted-public-keys key', 'not a public key'],
  ['composition check /none/file', '/none/file: no such file or directory'],
  ['composition check FILE', 'expected'],
  ['composition show FILE', 'expected'],
  ['realise garbage DIR', 'not a store path: "garbage"'],
  ['copy --to memory: garbage', 'not a store path: "garbage"'],
  ['copy --to memory: --all PATH', 'either STORE_PATH arguments or --all'],
  ['copy --from /nix/store x', 'not a store path: "x"'],
  ['copy --from /srv/store PATH', 'ends in /nix/store'],
  ['copy --to nix+file:// PATH', 'name a directory'],
  ['copy --to /srv/store PATH', 'did you mean local:///srv/store?'],
  ['copy --to memory: --reference-graph FILE PATH', 'leave out STORE_PATH and --all'],
  ['copy --to memory: --reference-graph FILE --all', 'leave out STORE_PATH and --all'],
  ['copy --to memory: --reference-graph FILE', 'not JSON'],
  ['copy --to memory: --reference-graph /none/graph', '/none/graph cannot be used: no such file'],
  ['root add x garbage', 'not a store path: "garbage"'],
  [`root add ${'x'.repeat(256)} PATH`, 'the name of a root'],
  ['root add --ttl 7 x PATH', 'A number needs a unit; write a duration'],
  ['root add --ttl 0s x PATH', 'Want a duration from 1s'],
  ['root add --ttl 99999999w x PATH', 'Want a duration from 1s'],
  ['root add --store memory: x PATH', 'local store only'],
  ['gc --older-than yesterday', 'Write a duration such as 30s, 90m'],
  ['gc --older-than 7', 'A number needs a unit; write a duration such as 30s, 90m'],
  ['gc --older-than 7days', 'Write a duration'],
  ['gc --older-than -7d', 'Write a duration'],
  ['gc --older-than 1.5h', 'Write a duration'],
  ['gc --max-size 5', 'A number needs a unit; write a size such as 4096B, 500M'],
  ['gc --max-size 5X', 'Write a size'],
  ['gc --max-size 5G --older-than 7d', 'cannot be used with'],
  ['gc --max-size 5G --older-than 7d', 'cannot be used with'],
  ['gc --grace 1d', 'for buckets'],
  ['ls --sort time', 'Allowed choices are'],
  ['backup', 'required option'],
  ['restore --store memory: --from /none', 'local store only'],
  ['compact --store memory:', 'local store only'],
  ['gc --max-size 5G', '--max-size is for caches'],
  ['gc --store memory:', 'local store only'],
  ['stats --store memory:', 'local store only'],
  ['stats --largest x', 'Want a whole number'],
  ['fsck --store memory:', 'local stores and buckets'],
  ['ls --store memory: --store-composition FILE', 'either --store-composition or addresses'],
  ['ls --blob-service-addr memory: --store-composition FILE', 'either --store-composition or addresses'],
  ['ls --cache DIR', '--cache has no effect'],
  ['mount --cache DIR DIR', '--cache has no effect'],
  ['gc --cache DIR', '--cache has no effect'],
  [`cat --trusted-public-keys ${TRUSTED} PATH/x`, '--trusted-public-keys has no effect'],
  ['cat --mirror grpc+http://127.0.0.1:1 PATH/x', '--mirror has no effect'],
  ['mount --store memory: --mirror grpc+htp://127.0.0.1:1 DIR', 'Unknown kind of store'],
  ['mount --store memory: --mirror nix+http://127.0.0.1:1 DIR', 'is a binary cache'],
  ['mount --store memory: --trusted-public-keys x DIR', 'Not a public key'],
  ['daemon --store memory: --trusted-public-keys=', 'There is no key in it'],
  ['copy --from memory: --to memory: --store memory: PATH', 'have no effect'],
  ['copy --from memory: --to memory: --store-composition FILE PATH', 'have no effect'],
  ['daemon --read-only --signing-key-file KEY', '--signing-key-file has no effect'],
  ['nar-bridge --allow-anonymous-upload --tokens FILE', 'not both'],
  ['nar-bridge --allow-anonymous-upload --signing-key-file KEY', '--signing-key-file'],
  ['fsck --from memory:', '--repair'],
];

/** What the words of the tables stand for. */
const WORDS: Readonly<Record<string, string>> = { PATH, FILE, DIR: dir, KEY: `${dir}/key` };

function argumentsOf(command: string): string[] {
  const words = command
    .split(' ')
    .map((word) => word.replace(/^(PATH|FILE|DIR|KEY)(?=$|\/)/, (it) => WORDS[it]!));
  return /--store\b/.test(command) || STORELESS.test(command) ? words : [...words, '--store', store];
}

/** Commands that work on no store. */
const STORELESS = /^(--|frobnicate|nar frobnicate|key|composition)/;

describe('wrong usage ends with 2, says why and points to the help:', () => {
  beforeAll(() => writeFileSync(`${dir}/key`, SecretKey.generate('key-1').secret(), { mode: 0o600 }));

  test.each(REQUIRED)('%s, without %s', async (command, missing) => {
    const { status, stdout, stderr } = await inProcess(argumentsOf(command));
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^error: .*\n\(see tvix-store [a-z-]+( [a-z]+)? --help\)\n$/);
    expect(stderr).toContain(missing);
  });

  test.each(WRONG)('%s', async (command, why) => {
    const { status, stdout, stderr } = await inProcess(argumentsOf(command));
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^error: (?:.|\n)*\n\(see tvix-store.* --help\)\n$/);
    expect(stderr).toContain(why);
    expect(stderr).not.toMatch(/ {4}at |ENOENT|EISDIR|: error:/);
  });

  test.each([[[]], [['nar']], [['key']], [['root']], [['composition']]])(
    '%j shows the help',
    async (args) => {
      const { status, stdout, stderr } = await inProcess(args);
      expect([status, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(/^Usage: tvix-store/);
    },
  );

  test.each([
    ['key', 'generate', ''],
    ['import', '--name', '', FILE],
    ['root', 'add', '', PATH, '--store', store],
  ])('an empty name: %s %s', async (...args) => expect((await inProcess(args)).status).toBe(2));

  test('of the program as of its commands run within a test', async () => {
    const args = ['cat', '--store', store, 'garbage'];
    expect(await tvixStore(args)).toEqual(await inProcess(args));
  });
});

describe('a file that cannot be used is told in words:', () => {
  test.each([
    [['import', '/none/file'], '/none/file: no such file or directory'],
    [['import', `${FILE}/below`], `${FILE}/below: not a directory`],
    [['import', '/dev/null'], '/dev/null: only files'],
    [['nar', 'import', '--name', 'x', '/none/nar'], 'cannot read /none/nar: no such file or directory'],
    [['nar', 'import', '--name', 'x', dir], `cannot read ${dir}: it is a directory`],
    [['mount', '/none/mnt'], '/none/mnt does not exist'],
    [['mount', FILE], `${FILE} is not a directory`],
    [['virtiofs', '/none/socket'], 'cannot listen on /none/socket: no such file or directory'],
    [['daemon', '-l', '/none/socket'], 'cannot listen on /none/socket: there is no directory /none'],
    [['daemon', '-l', FILE], `cannot listen on ${FILE}: something listens there already`],
    [['nar-bridge', '-l', '/none/socket'], 'cannot listen on /none/socket: there is no directory /none'],
    [['nix-daemon', '-l', '/none/socket'], 'cannot listen on /none/socket: there is no directory /none'],
    [['copy', '--from', '/none/nix/store', PATH], `${PATH} is not in /none/nix/store`],
    [['copy', '--from', '/none/nix/store', HASH], '/none/nix/store: no such file or directory'],
    [['copy', '--to', `nix+file://${FILE}`, '--all'], `cannot read ${FILE}/nix-cache-info: not a directory`],
  ])('%j', async (args, why) => {
    const { status, stdout, stderr } = await inProcess([...args, '--store', store]);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^error: .*\n$/);
    expect(stderr).toContain(why);
    expect(stderr).not.toMatch(/\bE[A-Z]{4,}\b/);
  });

  test('key generate --file', async () => {
    const { status, stderr } = await inProcess(['key', 'generate', '--file', '/none/key', 'key-1']);
    expect([status, stderr]).toEqual([1, 'error: cannot write /none/key: no such file or directory\n']);
  });
});

describe('a number with a unit is taken:', () => {
  test.each(['0', '30s', '90m', '12h', '7d', '2w'])('gc --older-than %s', async (duration) => {
    expect(await inProcess(['gc', '--store', store, '--older-than', duration])).toMatchObject({ status: 0 });
  });

  test.each(['0', '4096B', '512K', '500M', '20G', '20GiB', '1T'])('gc --max-size %s', async (size) => {
    const cache = tempDir();
    await LocalStore.open(cache, 'cache').close();
    const shrunk = await inProcess(['gc', '--store', `local://${cache}`, '--max-size', size]);
    expect(shrunk).toMatchObject({ status: 0, stderr: '' });
  });
});
