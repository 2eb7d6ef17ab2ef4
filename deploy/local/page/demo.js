// The page needs a node to begin with, for its client. While there is none it tries on.
import("./page.js").catch(e => {
  console.error(e);
  document.querySelector("#state").textContent = "no node answers, trying again…";
  setTimeout(() => location.reload(), 2000);
});
