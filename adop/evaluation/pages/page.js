// The moving parts of the pages of results: sliders between two pictures, and pictures that are enlarged by a click.
"use strict";

// The divider follows the pointer, whatever kind it is; keys move the range input that lies in each slider.
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input");
  const show = () => slider.style.setProperty("--at", `${range.value}%`);
  const follow = (event) => {
    const box = slider.getBoundingClientRect();
    range.value = (100 * (event.clientX - box.left)) / box.width;
    show();
  };
  slider.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    slider.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
  });
  slider.addEventListener("pointermove", (event) => {
    if (slider.hasPointerCapture(event.pointerId)) follow(event);
  });
  range.addEventListener("input", show);
  show(); // a reloaded page keeps the value
}

// Which picture is on a side of a slider.
for (const select of document.querySelectorAll("select[data-side]")) {
  const slider = select.closest(".photo").querySelector(".slider"), side = select.dataset.side;
  const show = () => {
    const label = select.selectedOptions[0].textContent;
    const image = slider.querySelector(`img.${side}`);
    image.src = select.value;
    image.alt = label;
    slider.querySelector(`span.${side}`).textContent = label;
  };
  select.addEventListener("change", show);
  show();
}

// An enlarged picture, and its neighbours in the same group of pictures by the arrow keys.
const dialog = document.querySelector("dialog");
const image = dialog.querySelector("img");
let group = [], shown = 0;

function enlarge(index) {
  shown = (index + group.length) % group.length;
  image.src = group[shown].href;
  image.alt = dialog.querySelector("span").textContent = group[shown].title;
}

for (const link of document.querySelectorAll("a.enlarge")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    group = [...link.closest(".photo").querySelectorAll("a.enlarge")];
    dialog.classList.remove("actual");
    enlarge(group.indexOf(link));
    dialog.showModal();
  });
}
image.addEventListener("click", () => dialog.classList.toggle("actual"));
dialog.querySelector(".previous").addEventListener("click", () => enlarge(shown - 1));
dialog.querySelector(".next").addEventListener("click", () => enlarge(shown + 1));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") enlarge(shown - 1);
  if (event.key === "ArrowRight") enlarge(shown + 1);
});
