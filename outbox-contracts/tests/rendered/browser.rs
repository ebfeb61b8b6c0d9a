//! A browser without a window, which looks at a page.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

/// What the browser made of a file.
pub struct Looked {
    /// As markup, after all scripts that it was allowed to run.
    pub dom: String,
    /// Whether it asked for anything by the network.
    pub asked_the_network: bool,
}

/// Opens a file. The browser ends by itself.
pub fn look(file: &Path, options: &[&str]) -> Looked {
    // All that is asked of the network comes here, and is refused.
    let network = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = network.local_addr().unwrap();
    let asked =
        thread::spawn(move || network.incoming().take_while(|asked| !is_ours(asked)).count());
    let profile = TempDir::new().unwrap();
    let chromium = xtask::chromium().unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "180"]).arg(chromium.get_program());
    command.envs(chromium.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args([
        // It refuses to run as root with one, as in a container.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--proxy-server=http://{}", address));
    command.args(options).arg(format!("file://{}", file.display()));
    let ran = command.output();
    TcpStream::connect(address).and_then(|mut end| end.write_all(END)).unwrap();
    let ran = ran.expect("`timeout` runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {said}", ran.status);
    Looked {
        dom: String::from_utf8(ran.stdout).unwrap(),
        asked_the_network: asked.join().unwrap() > 0,
    }
}

/// What is said last, when the browser has ended.
const END: &[u8] = b"end";

fn is_ours(asked: &io::Result<TcpStream>) -> bool {
    let Ok(mut asked) = asked.as_ref() else { return false };
    let mut begin = [0; END.len()];
    // A browser may connect and say nothing, while others wait.
    let bounded = asked.set_read_timeout(Some(Duration::from_secs(1)));
    bounded.and_then(|()| asked.read_exact(&mut begin)).is_ok() && begin == *END
}

/// What a person sees of a page, in a window of a width in CSS pixels.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub width: u32,
    /// The text that is visible.
    pub text: String,
    /// What is wider than the window.
    pub wider: Vec<String>,
    /// Elements that are none of text.
    pub foreign: u32,
    /// Links whose target is not on the page.
    pub broken: Vec<String>,
    pub links: u32,
    /// Elements that have the same id as another one.
    pub doubled: u32,
}

/// The page is in a frame where no script may run; one outside of it looks.
pub fn see(page: &str, widths: &[u32]) -> Vec<Seen> {
    let dir = TempDir::new().unwrap();
    let page = serde_json::to_string(page).unwrap().replace("</", "<\\/").replace("<!--", "<\\!--");
    let html = LOOKER.replace("WIDTHS", &format!("{widths:?}")).replace("PAGE", &page);
    let file = dir.path().join("looker.html");
    fs::write(&file, html).unwrap();
    let dom = look(&file, &["--virtual-time-budget=60000"]).dom;
    let (_, found) = dom.split_once("<pre id=\"found\">").expect("the looker has a result");
    let (found, _) = found.split_once("</pre>").unwrap();
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}");
    serde_json::from_str(&found.replace("&amp;", "&"))
        .unwrap_or_else(|error| panic!("{error}: {found:.400}"))
}

const LOOKER: &str = r##"<!doctype html>
<meta charset="utf-8">
<pre id="found"></pre>
<script>
const page = PAGE, found = [];
function look(widths) {
  if (widths.length == 0) {
    document.getElementById("found").textContent = JSON.stringify(found);
    return;
  }
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-same-origin");
  frame.style.width = widths[0] + "px";
  frame.style.height = "800px";
  frame.onload = () => {
    const seen = frame.contentDocument, all = [...seen.querySelectorAll("*")];
    const links = [...seen.querySelectorAll("a[href]")].map(a => a.getAttribute("href"));
    const ids = all.filter(e => e.id).map(e => e.id);
    const wider = all.filter(e => e.getBoundingClientRect().right > widths[0] + 1 || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0);
    found.push({
      width: widths[0],
      text: seen.body.innerText,
      wider: wider.map(e => e.outerHTML.slice(0, 100)).slice(0, 5),
      foreign: seen.querySelectorAll("script,img,iframe,object,embed,svg,math,link,base,form,input,button").length,
      broken: links.filter(to => !to.startsWith("#") || !seen.getElementById(to.slice(1))),
      links: links.length,
      doubled: ids.length - new Set(ids).size,
    });
    look(widths.slice(1));
  };
  frame.srcdoc = page;
  document.body.append(frame);
}
look(WIDTHS);
</script>
"##;
