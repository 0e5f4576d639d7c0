"use strict";
for (const viewer of document.querySelectorAll(".viewer")) {
  const slider = viewer.querySelector("input");
  const picture = viewer.querySelector("svg");
  const output = viewer.querySelector("output");
  const slices = [...viewer.querySelectorAll(".slice")];
  const show = (wanted) => {
    const k = Math.min(Math.max(wanted, 0), slices.length - 1);
    const moved = slider.value !== String(k + 1) || !slices[k].classList.contains("shown");
    slices.forEach((slice, i) => slice.classList.toggle("shown", i === k));
    slider.value = k + 1;
    output.textContent = slices[k].dataset.text;
    slider.setAttribute("aria-valuetext", slices[k].dataset.text);
    return moved;
  };
  const now = () => Number(slider.value) - 1;
  slider.addEventListener("input", () => show(now()));
  slider.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 5, PageUp: -5, Home: -1e6, End: 1e6 }[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(now() + step);
  });
  picture.addEventListener("click", () => slider.focus({ preventScroll: true }));

  // The wheel scrolls slices once the pointer has moved over the picture, so that it does not catch who scrolls the page.
  let armed = false;
  let rolled = 0;
  window.addEventListener("scroll", () => { armed = false; }, { passive: true });
  picture.addEventListener("pointermove", () => { armed = true; });
  picture.addEventListener("wheel", (event) => {
    if (!armed && document.activeElement !== slider) return;
    event.preventDefault();
    rolled += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
    const step = Math.trunc(rolled);
    if (step === 0) return;
    rolled = 0;
    show(now() + Math.sign(step));
  }, { passive: false });

  let from = null;
  picture.addEventListener("pointerdown", (event) => { from = { x: event.clientX, k: now() }; picture.setPointerCapture(event.pointerId); });
  picture.addEventListener("pointermove", (event) => { if (from) show(from.k + Math.round((event.clientX - from.x) / 12)); });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { from = null; });

  viewer.addEventListener("jump", (event) => {
    show(slices.findIndex((slice) => slice.dataset.key === event.detail));
    slider.focus({ preventScroll: true });
  });
  show(now());
}
for (const link of document.querySelectorAll("a.jump")) {
  link.addEventListener("click", (event) => {
    const viewer = document.querySelector(link.getAttribute("href"));
    if (!viewer) return;
    // Following the link takes the focus away, so it comes first.
    event.preventDefault();
    location.hash = link.getAttribute("href");
    viewer.dispatchEvent(new CustomEvent("jump", { detail: link.dataset.slice }));
  });
}
