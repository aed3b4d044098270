/** What is written before each page that TypeDoc reads, and read back when the site is put together. */
import type { DocumentReflection } from 'typedoc';

/** What is known of a page beside its text. */
export interface FrontMatter {
  title: string;
  /** Where the page is in the site, without `.html`. */
  sitePath: string;
  /** The title of its section of the navigation; null for a file of the repository, which has no section. */
  section: string | null;
  /** Its place in the order of reading. */
  order: number;
}

/** The lines that go before the text of a page. */
export function formatFrontMatter(values: FrontMatter): string {
  const lines = Object.entries(values).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  return `---\n${lines.join('\n')}\n---\n\n`;
}

/** What {@link formatFrontMatter} has written before a page. TypeDoc takes the title away, and gives it as the name. */
export function frontMatterOf(document: DocumentReflection): Omit<FrontMatter, 'title'> {
  return document.frontmatter as unknown as FrontMatter;
}
