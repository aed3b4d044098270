/** The front matter of each page that TypeDoc reads, which is read back when the site is assembled. */
import type { DocumentReflection } from 'typedoc';

/** The metadata of a page. */
export interface FrontMatter {
  title: string;
  /** The path of the page in the site, without `.html`. */
  sitePath: string;
  /** The title of its section of the navigation; null for a file of the repository, which has no section. */
  section: string | null;
  /** Its position in the reading order. */
  order: number;
}

/** Formats the lines before the text of a page. */
export function formatFrontMatter(values: FrontMatter): string {
  const lines = Object.entries(values).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  return `---\n${lines.join('\n')}\n---\n\n`;
}

/** Reads the lines of {@link formatFrontMatter}. TypeDoc removes the title, and passes it as the name. */
export function frontMatterOf(document: DocumentReflection): Omit<FrontMatter, 'title'> {
  return document.frontmatter as unknown as FrontMatter;
}
