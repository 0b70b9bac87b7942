import { Command } from "commander";
export function mountCommand(): Command {
  return new Command("mount");
}
