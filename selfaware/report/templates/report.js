
// Filters the questions. The page is whole without it.
(function () {
  var box = document.getElementById("filter");
  if (!box) return;
  var input = box.querySelector("input"), count = box.querySelector("output");
  var items = Array.prototype.map.call(document.querySelectorAll("details.item"), function (item) {
    var text = "";
    item.querySelectorAll(":scope > summary, pre, .options").forEach(function (part) { text += part.textContent + " "; });
    return { item: item, text: text.toLowerCase() };
  });
  box.hidden = false;
  input.addEventListener("input", function () {
    var wanted = input.value.trim().toLowerCase(), shown = 0;
    items.forEach(function (found) {
      var hit = found.text.indexOf(wanted) >= 0;
      found.item.hidden = !hit;
      shown += hit ? 1 : 0;
    });
    document.querySelectorAll("details.set").forEach(function (set) {
      var some = set.querySelector("details.item:not([hidden])") !== null;
      set.hidden = !some;
      if (wanted) set.open = some;
    });
    count.textContent = wanted ? shown + " of " + items.length : "";
  });
})();
