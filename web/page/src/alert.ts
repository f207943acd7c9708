/** The message about an error, with a button that tries again when the server expects it. */

import { byId, setText, setVisible } from "./elements.js";
import type { Problem } from "./problems.js";

/** The alert below the image. Only one error is shown at a time. */
export class Alert {
  readonly #button = byId("retry", HTMLButtonElement);
  #timer: number | undefined;
  #retry: () => void = () => undefined;

  constructor() {
    this.#button.addEventListener("click", () => {
      this.hide();
      this.#retry();
    });
  }

  /** Show an error and what was received before it. `retry` is called when the button is pressed. */
  show(problem: Problem, known: string, retry: () => void): void {
    this.hide();
    this.#retry = problem.action === "Reload the page" ? () => location.reload() : retry;
    setText("alert-title", problem.title);
    setText("alert-text", problem.text);
    setText("alert-known", known);
    setVisible(true, "alert");
    this.#button.hidden = problem.action === null;
    this.#countDown(problem.action ?? "", problem.waitS);
  }

  /** Remove the message. */
  hide(): void {
    window.clearInterval(this.#timer);
    setVisible(false, "alert");
  }

  /** Disable the button for some seconds, which its label counts down. */
  #countDown(action: string, seconds: number): void {
    const end = performance.now() + 1000 * seconds;
    const update = () => {
      const left = Math.ceil((end - performance.now()) / 1000);
      this.#button.disabled = left > 0;
      this.#button.textContent = left > 0 ? `${action} in ${left} s` : action;
      if (left <= 0) window.clearInterval(this.#timer);
    };
    this.#timer = window.setInterval(update, 250);
    update();
  }
}
