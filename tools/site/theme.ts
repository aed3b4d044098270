/** TypeDoc's default theme, with the navigation of the site and links from each document to the next. */
import {
  DefaultTheme,
  DefaultThemeRenderContext,
  type DocumentReflection,
  JSX,
  PageEvent,
  ReflectionKind,
  type Renderer,
} from 'typedoc';
import { firstSentence } from './api.js';
import { frontMatterOf } from './front-matter.js';
import { readingOrder, siteNavigation } from './navigation.js';

const { createElement } = JSX;

/**
 * Shows the page at once, which TypeDoc hides until its own navigation has loaded; scrolls to the page's entry in the navigation;
 * and makes scrolling boxes reachable by keyboard.
 */
const AT_THE_END = `
document.body.style.removeProperty('display');
{
  const here = document.querySelector('.site-menu [aria-current]');
  for (const box of document.querySelectorAll('.site-menu, .col-sidebar')) {
    if (here && here.offsetTop > box.clientHeight) box.scrollTop = here.offsetTop - box.clientHeight / 2;
  }
  const reachScrolling = () => {
    for (const box of document.querySelectorAll('.col-content pre > code, .col-content .wide')) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute('tabindex');
    }
  };
  // A picture has no width before it has loaded.
  addEventListener('load', reachScrolling);
  addEventListener('resize', reachScrolling);
}`;

class SiteContext extends DefaultThemeRenderContext {
  constructor(...given: ConstructorParameters<typeof DefaultThemeRenderContext>) {
    super(...given);
    const headerOfApi = this.header;
    this.navigation = () => siteNavigation(this);
    this.commentShortSummary = (exported) => {
      const { comment } = (exported.isDeclaration() && exported.signatures?.[0]) || exported;
      return this.displayParts(comment && firstSentence(comment.summary));
    };
    this.header = (page) => {
      // Documents have their own heading.
      if (page.model.isDocument()) return createElement(JSX.Fragment, null);
      return createElement(
        JSX.Fragment,
        null,
        headerOfApi(page),
        page.model.kindOf(ReflectionKind.Module) && this.#guide(),
      );
    };
  }

  /** Where to begin, for readers of the list of all exports. */
  #guide(): JSX.Element {
    const guide = readingOrder(this.page.project).find(
      (document) => frontMatterOf(document).sitePath === 'docs/programs',
    );
    if (guide === undefined) throw new Error('no page for docs/programs.md');
    return createElement(
      'p',
      null,
      'The guide to it: ',
      createElement('a', { href: this.urlTo(guide) }, guide.name),
      '.',
    );
  }
}

/** The theme that the site's build passes to TypeDoc. */
export class SiteTheme extends DefaultTheme {
  override ContextClass = SiteContext;

  constructor(renderer: Renderer) {
    super(renderer);
    renderer.on(PageEvent.END, finish);
    renderer.hooks.on('content.end', neighbours);
    renderer.hooks.on('body.end', () => createElement('script', null, createElement(JSX.Raw, { html: AT_THE_END })));
  }
}

/** Links to the previous and next documents; nothing on pages of the API. */
function neighbours(context: DefaultThemeRenderContext): JSX.Element {
  const { project, model, url } = context.page;
  const order = readingOrder(project);
  const at = order.findIndex((document) => document === model);
  if (at === -1 && url !== 'index.html') return createElement(JSX.Fragment, null);
  const link = (document: DocumentReflection | undefined, rel: string) =>
    document === undefined ? null : createElement('a', { href: context.urlTo(document), rel }, document.name);
  return createElement(
    'nav',
    { class: 'neighbours', 'aria-label': 'Before and after this page' },
    link(order[at - 1], 'prev'),
    link(order[at + 1], 'next'),
  );
}

/**
 * Puts each table into a box, in which it scrolls where it is wider than the screen, as pictures do, keeps short code in one
 * line, an option among it, and says which part of the page is its text.
 */
function finish(page: PageEvent): void {
  const { contents = '' } = page;
  page.contents = contents
    .replaceAll('<table>', '<div class="wide"><table>')
    .replaceAll('</table>', '</table></div>')
    .replace(/<p>(?=<img [^>]*><\/p>)/g, '<p class="wide">')
    .replace(/<td>(?=<code>[^<]{1,26}<\/code><\/td>)/g, '<td class="short">')
    .replace(/<code>(?=[^<\s]{1,26}<\/code>)/g, '<code class="word">')
    .replace('<div class="col-content">', '<div class="col-content" role="main">');
}
