/** The paths of pages in the site. */
import { KindRouter, type PageDefinition, type ProjectReflection, type Reflection, ReflectionKind } from 'typedoc';
import { frontMatterOf } from './front-matter.js';
import { HeadingSlugger } from './headings.js';

/** Documents keep their repository paths; the API is in `api/`, each export under its name. */
export class SiteRouter extends KindRouter {
  override buildPages(project: ProjectReflection): PageDefinition[] {
    const pages = super.buildPages(project);
    for (const target of [project, ...(project.documents ?? [])]) this.sluggers.set(target, new HeadingSlugger());
    // The project's own page would repeat the navigation.
    this.fullUrls.set(project, 'index.html');
    return pages.filter(({ url }) => url !== 'modules.html');
  }

  protected override getIdealBaseName(reflection: Reflection): string {
    if (reflection.isDocument()) return frontMatterOf(reflection).sitePath;
    return reflection.kindOf(ReflectionKind.Module) ? 'api/index' : `api/${reflection.name}`;
  }
}
