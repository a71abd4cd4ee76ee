// Pointer and keyboard on the canvas of the map.

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// actions: ready(), tell(index, announce), pick(index), clear(), turn(way), zoom(factor, x, y), paint()
export function listenTo(canvas, plot, actions) {
  let drag = null;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  function move(event) {
    const [x, y] = spot(event);
    if (!drag || plot.view.scale <= 1 || !event.buttons) {
      actions.tell(plot.nearest(x, y));
      return;
    }
    drag.moved = drag.moved || Math.hypot(x - drag.at[0], y - drag.at[1]) > 4;
    plot.pan(x - drag.at[0], y - drag.at[1]);
    drag.at = [x, y];
    actions.paint();
  }

  function key(event) {
    const step = STEPS[event.key];
    if (!actions.ready()) return;
    if (step) actions.tell(plot.step(...step), true);
    else if (event.key === "Enter" && plot.cursor >= 0) actions.pick(plot.cursor);
    else if (event.key === "[" || event.key === "]") actions.turn(event.key === "]" ? 1 : -1);
    else if (event.key === "+") actions.zoom(1.5);
    else if (event.key === "-") actions.zoom(1 / 1.5);
    else if (event.key === "0") actions.zoom(1e-9);
    else if (event.key === "Escape" && (plot.lit || plot.cursor >= 0)) actions.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function wheel(event) {
    if (!event.ctrlKey) return; // a plain wheel scrolls the page
    event.preventDefault();
    actions.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...spot(event));
  }

  canvas.addEventListener("pointerdown", (event) => {
    drag = { at: spot(event), moved: false };
  });
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerleave", () => {
    drag = null;
    actions.tell(-1);
  });
  canvas.addEventListener("click", (event) => {
    if (!drag || !drag.moved) actions.pick(plot.nearest(...spot(event)));
  });
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("keydown", key);
}
