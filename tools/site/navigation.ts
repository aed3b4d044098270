/** The navigation beside each page. It is part of the page, so it appears at once and without a script. */
import {
  type DefaultThemeRenderContext,
  type DocumentReflection,
  JSX,
  type ProjectReflection,
  type Reflection,
  ReflectionKind,
} from 'typedoc';
import { API_PART_TITLES } from './api.js';
import { COLLECTIONS } from './contents.js';
import { frontMatterOf } from './front-matter.js';

const { createElement } = JSX;

/** Lists the documents in the order of the contents, without the front page and files of the repository. */
export function readingOrder(project: ProjectReflection): DocumentReflection[] {
  return (project.documents ?? [])
    .filter((document) => frontMatterOf(document).section !== null)
    .sort((a, b) => frontMatterOf(a).order - frontMatterOf(b).order);
}

/** The navigation for the page of `context`. */
export function siteNavigation(context: DefaultThemeRenderContext): JSX.Element {
  const { project } = context.page;
  const sections = new Map<string, DocumentReflection[]>();
  for (const document of readingOrder(project)) {
    const { section } = frontMatterOf(document);
    sections.set(section ?? '', [...(sections.get(section ?? '') ?? []), document]);
  }
  const entries = Array.from(sections, ([title, documents]) =>
    branch(
      title,
      documents.map((document) => entry(context, document)),
      !COLLECTIONS.some((collection) => collection.title === title) ||
        documents.some((document) => document === context.page.model),
    ),
  );
  return createElement(
    'nav',
    { class: 'tsd-navigation site-navigation', 'aria-label': 'Documents' },
    link(context.relativeURL('index.html'), project.name, context.page.url === 'index.html'),
    ...entries,
    apiBranch(context),
  );
}

/** The module, i.e. the package, and its exports by part. */
function apiBranch(context: DefaultThemeRenderContext): JSX.Element {
  const { project, model } = context.page;
  const [module] = project.getReflectionsByKind(ReflectionKind.Module);
  if (!module?.isDeclaration()) throw new Error('TypeDoc found no module');
  const isHere = (reflection: Reflection) => reflection === model;
  const parts = API_PART_TITLES.flatMap((title) => {
    const exported = module.categories?.find((category) => category.title === title)?.children ?? [];
    return exported.length === 0
      ? []
      : [
          createElement(
            'li',
            null,
            branch(
              title,
              exported.map((item) => entry(context, item)),
              exported.some(isHere),
            ),
          ),
        ];
  });
  return branch(
    'API',
    [entry(context, module, 'Everything exported'), ...parts],
    !model.isDocument() && !model.isProject(),
  );
}

function branch(title: string, entries: JSX.Element[], isOpen: boolean): JSX.Element {
  return createElement(
    'details',
    { open: isOpen },
    createElement('summary', null, title),
    createElement('ul', null, ...entries),
  );
}

function entry(context: DefaultThemeRenderContext, reflection: Reflection, name = reflection.name): JSX.Element {
  return createElement('li', null, link(context.urlTo(reflection) ?? '', name, reflection === context.page.model));
}

function link(href: string, name: string, isHere: boolean): JSX.Element {
  return createElement('a', isHere ? { href, 'aria-current': 'page' } : { href }, name);
}
