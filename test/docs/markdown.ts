/** A fenced block of a page. */
export interface Block {
  /** First word of its info string, such as `sh`. */
  readonly language: string;
  /** What else it says, such as `needs=s3`. */
  readonly words: readonly string[];
  readonly text: string;
  /** Line of its text in the page, from 1. */
  readonly line: number;
  /** Text of the heading above it. */
  readonly heading: string;
}

/** The fenced blocks of a page in a language, in order. */
export function blocksOf(page: string, language: string): Block[] {
  return allBlocks(page).filter((block) => block.language === language);
}

export function allBlocks(page: string): Block[] {
  const blocks: Block[] = [];
  const lines = page.split('\n');
  let heading = '';
  for (let i = 0; i < lines.length; i++) {
    heading = /^#+ (.*)/.exec(lines[i]!)?.[1] ?? heading;
    const fence = /^```(\S*) ?(.*)$/.exec(lines[i]!);
    if (!fence) continue;
    const end = lines.indexOf('```', i + 1);
    if (end < 0) throw new Error(`the block at line ${i + 1} has no end`);
    const text = `${lines.slice(i + 1, end).join('\n')}\n`;
    blocks.push({
      language: fence[1]!,
      words: [...fence[2]!.matchAll(/(\S+?)=(?:"([^"]*)"|(\S+))/g)].map(([, k, a, b]) => `${k}=${a ?? b}`),
      text,
      line: i + 2,
      heading,
    });
    i = end;
  }
  return blocks;
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(page: string): Set<string> {
  return new Set(
    headingsOf(page).map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  );
}

function headingsOf(page: string): string[] {
  return [...withoutBlocks(page).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading!);
}

/** Targets of the links in a page. */
export function linksOf(page: string): string[] {
  const text = withoutBlocks(page).replace(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
}

function withoutBlocks(page: string): string {
  return page.replace(/^```[\s\S]*?^```$/gm, '');
}
