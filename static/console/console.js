// The console works without this. It copies what is shown once, sends a form once, and closes menus.
"use strict";

document.documentElement.dataset.scripts = "on";

const told = (text) => {
  const region = document.getElementById("told");
  if (region) region.textContent = text;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    told("Copied.");
    button.lastChild.textContent = " Copied";
  } catch {
    getSelection().selectAllChildren(source);
    told("Selected. Copy it with your keyboard.");
  }
});

document.addEventListener("submit", (event) => {
  const button = event.target.querySelector("[data-once]");
  if (!button) return;
  if (button.getAttribute("aria-disabled") === "true") event.preventDefault();
  button.setAttribute("aria-disabled", "true");
});

// What is shown once is gone with its page, also where a browser keeps pages for the way back.
addEventListener("pagehide", () => {
  document.querySelectorAll("[data-shown-once]").forEach((shown) => { shown.textContent = "Shown once; gone with its page."; });
});

// The way back may show a page as it was left.
addEventListener("pageshow", () => {
  document.querySelectorAll("[data-once]").forEach((button) => button.removeAttribute("aria-disabled"));
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    document.querySelectorAll("details.menu[open]").forEach((menu) => {
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }
});

document.addEventListener("click", (event) => {
  document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
});
