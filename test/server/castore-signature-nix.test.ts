import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SecretKey } from '../../src/nix/key.ts';
import { printNamed } from '../../src/nix/named-bytes.ts';
import { signaturesBy } from '../../src/store/trust/verify.ts';
import { tvixStore } from '../helpers/cli.ts';
import { startNarBridge, startNixDaemon } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { mount } from '../helpers/mount.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const KEY = SecretKey.generate('signer-1');

describeNix('signatures over castore roots and the real Nix', () => {
  test('goes by them where they stand, and brings them along, by its daemon and in caches', async () => {
    const dir = tempDir();
    const nix = new NixUser(`trusted-public-keys = ${KEY.publicKey}\n`);
    const first = localStore(`${dir}/first`);
    const info = await putStorePath(first, 'signed', directory({ file: file('contents') }));
    const signatures = signaturesBy(KEY, info);
    await first.pathInfos.put({ ...info, signatures });
    await first.close();
    const path = info.storePath.absolute();
    const names = async (store: string) =>
      ((await nix.pathInfos(['--store', store, path]))[0]!.signatures ?? []).sort();
    const both = signatures.map(printNamed).sort();

    // By the protocol of its daemon, signatures checked: it goes by its own.
    const daemon = await startNixDaemon(`local://${dir}/first`, join(dir, 'socket'));
    const files = await mount(['--store', `local://${dir}/first`, '--list-root']);
    const byDaemon = join(dir, 'by-daemon');
    await nix.run('nix', ['copy', '--from', `unix://${daemon.at}?real=${files.dir}`, '--to', byDaemon, path]);
    await daemon.stop();
    await files.stop();
    expect(await names(byDaemon)).toEqual(both);
    await nix.run('nix', ['store', 'verify', '--store', byDaemon, path]);
    // And on into a store of ours, by a binary cache, where it writes it as it knows it.
    const target = await startNarBridge(`local://${dir}/second`);
    const url = `http://${target.at}`;
    await nix.run('nix', ['copy', '--from', byDaemon, '--to', `${url}?compression=none`, path]);
    const text = (await http(target.port, `/${info.storePath.hashText}.narinfo`)).body.toString();
    expect(text).toContain(`CastoreSig: signer-1:${printNamed(signatures[1]!).split(':')[1]}\n`);
    expect(text).not.toContain('signer-1.castore');
    // What is a line that it does not know is no harm to it.
    const other = new NixUser(`trusted-public-keys = ${KEY.publicKey}\n`);
    await other.run('nix', ['store', 'verify', '--store', url, path]);
    const byCache = join(dir, 'by-cache');
    await other.run('nix', ['copy', '--from', url, '--to', byCache, path]);
    expect(await names(byCache)).toEqual([printNamed(signatures[0]!)]);
    await target.stop();
    const second = localStore(`${dir}/second`);
    const stored = (await second.pathInfos.get(info.storePath.hash))!;
    await second.close();
    expect(stored.signatures.map(printNamed).sort()).toEqual(both);
    const keyFile = join(dir, 'key');
    writeFileSync(keyFile, KEY.secret(), { mode: 0o600 });
    // It is as good as on the first day: nobody has to sign again.
    const again = await tvixStore(['sign', '--store', `local://${dir}/second`, '-k', keyFile, '--all']);
    expect(again).toMatchObject({ status: 0, stdout: '' });
  });
});
