/** Elements of the page. */

/** Return the element with an id. Throws if the page has none of this class. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} with the id ${id}`);
  return found;
}

/** Set the text of an element. */
export function setText(id: string, text: string): void {
  const element = byId(id, HTMLElement);
  element.textContent = text;
}

/** Show or hide elements. */
export function setVisible(visible: boolean, ...ids: string[]): void {
  for (const id of ids) byId(id, HTMLElement).hidden = !visible;
}

/** Return a new element with a text or children. */
export function create<K extends keyof HTMLElementTagNameMap>(
  name: K,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}

/** Replace the options of a select. The selected value stays if it is still available, otherwise it is `fallback`. */
export function setOptions(
  select: HTMLSelectElement,
  options: readonly { readonly value: string; readonly text: string }[],
  fallback?: string,
): void {
  const previous = select.value;
  select.replaceChildren(
    ...options.map(({ value, text }) => {
      const option = create("option", text);
      option.value = value;
      return option;
    }),
  );
  const wanted = [previous, fallback].find((value) => options.some((option) => option.value === value));
  if (wanted !== undefined) select.value = wanted;
}
