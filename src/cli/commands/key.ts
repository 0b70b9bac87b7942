import { Command } from 'commander';
import { SecretKey } from '../../nix/key.ts';
import { readSecretKey, readSecretKeyFile } from '../../nix/key-file.ts';

export function keyCommand(): Command {
  return new Command('key')
    .summary('make keys that sign store paths')
    .description("Makes keys that sign store paths (ed25519, in Nix's formats).")
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store key generate cache.example.org-1 > secret && tvix-store key public < secret',
    )
    .addCommand(generateCommand())
    .addCommand(publicCommand());
}

function generateCommand(): Command {
  return new Command('generate')
    .summary('make a secret key')
    .description('Makes a secret key and prints it.')
    .argument(
      '<NAME>',
      'what it is called, without a colon or white space: usually a host name, a dash and a number',
    )
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store key generate cache.example.org-1 > secret && chmod 600 secret',
    )
    .action((name: string) => {
      process.stdout.write(`${SecretKey.generate(name).secret()}\n`);
    });
}

function publicCommand(): Command {
  return new Command('public')
    .summary('tell the public key of a secret one')
    .description('Prints the public key of a secret key, for trusted-public-keys.')
    .option('--file <FILE>', 'where the secret key is (default: standard input)')
    .addHelpText('after', '\nExample:\n  tvix-store key public --file secret')
    .action(async ({ file }: { file?: string }) => {
      const key = await (file === undefined ? readSecretKey(process.stdin) : readSecretKeyFile(file));
      process.stdout.write(`${key.publicKey}\n`);
    });
}
