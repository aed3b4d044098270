/** Anchors of headings as GitHub and editors make them, so that a link to a section means the same everywhere. */
import { Slugger } from 'typedoc';

/** Gives each heading of a page its anchor. */
export class HeadingSlugger extends Slugger {
  readonly #anchors = new Set<string>();

  constructor() {
    super({ lowercase: true });
  }

  override slug(text: string): string {
    const plain = text
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = plain;
    for (let count = 1; this.#anchors.has(anchor); count++) anchor = `${plain}-${count}`;
    this.#anchors.add(anchor);
    return anchor;
  }

  override hasAnchor(anchor: string): boolean {
    return this.#anchors.has(anchor);
  }

  override getSimilarAnchors(anchor: string): string[] {
    const words = anchor.split('-');
    const likeness = (other: string) => other.split('-').filter((word) => words.includes(word)).length;
    return Array.from(this.#anchors)
      .sort((a, b) => likeness(b) - likeness(a))
      .slice(0, 3);
  }
}

/** The part of markdown-it that {@link keepCodeInHeadings} needs. */
interface MarkdownParser {
  core: { ruler: { push: (name: string, rule: (state: { tokens: Token[]; Token: TokenClass }) => void) => void } };
}
interface Token {
  type: string;
  content: string;
  children: Token[] | null;
}
type TokenClass = new (type: string, tag: string, nesting: number) => Token;

/** Has TypeDoc read the code in a heading as text, which it otherwise leaves out of the anchor and of the list of sections. */
export function keepCodeInHeadings(parser: MarkdownParser): void {
  parser.core.ruler.push('code-in-headings', ({ tokens, Token }) => {
    const make = (type: string, content: string): Token => Object.assign(new Token(type, '', 0), { content });
    tokens.forEach((token, at) => {
      if (tokens[at - 1]?.type !== 'heading_open' || token.children === null) return;
      token.children = token.children.flatMap((child) =>
        child.type === 'code_inline'
          ? [make('html_inline', '<code>'), make('text', child.content), make('html_inline', '</code>')]
          : [child],
      );
    });
  });
}
