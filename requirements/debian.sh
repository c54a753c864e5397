# Installs the Debian packages named in a file (one a line, # = comment) that are not there yet. Run as root.
set -eu
wanted=$(sed 's/#.*//' "$1" | tr -s '[:space:]' ' ')
missing=""
for name in $wanted; do
  dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $name"
done
[ -z "$missing" ] && exit 0
echo "Installing Debian packages:$missing"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
