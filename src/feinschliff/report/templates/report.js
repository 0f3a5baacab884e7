"use strict";
for (const table of document.querySelectorAll("[data-answers]")) {
  const text = table.querySelector("input[type=search]");
  const rows = [...table.querySelectorAll("[data-outcome]")];
  const shown = table.querySelector("[data-shown]");
  let wanted = "";
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = (wanted && row.dataset.outcome !== wanted) || !words.every((word) => content.includes(word));
      n += row.hidden ? 0 : 1;
    }
    shown.textContent = `${n} of ${rows.length} shown`;
  };
  for (const button of table.querySelectorAll("button[data-want]")) {
    button.addEventListener("click", () => {
      wanted = button.dataset.want;
      for (const other of table.querySelectorAll("button[data-want]")) other.setAttribute("aria-pressed", String(other === button));
      apply();
    });
  }
  text.addEventListener("input", apply);
  table.querySelector("[data-filter]").hidden = false;
  apply();
}
addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details.print")) d.open = true; });
