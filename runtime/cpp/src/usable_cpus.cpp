#include "usable_cpus.hpp"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace hsrt {
namespace fs = std::filesystem;
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

int cpus_of_affinity() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

double cpus_of(double quota, double period) {
  return quota > 0 && period > 0 ? quota / period : kNoLimit;
}

// The limit of one group, in CPUs: "<quota or max> <period>" in version 2, two files in version 1.
double limit_of(const fs::path& group) {
  double quota = 0;
  double period = 0;
  std::ifstream(group / "cpu.max") >> quota >> period;  // "max" is no number: no limit
  double limit = cpus_of(quota, period);
  quota = period = 0;
  std::ifstream(group / "cpu.cfs_quota_us") >> quota;  // -1: no limit
  std::ifstream(group / "cpu.cfs_period_us") >> period;
  return std::min(limit, cpus_of(quota, period));
}

// A mounted hierarchy of control groups that may limit the time of processors.
struct Hierarchy {
  fs::path mounted;  // the group that is seen at the mount
  fs::path mount;
  bool is_version_1;
};

// A path of mountinfo, in which blanks, tabs, line ends and backslashes are octal: "\\040".
std::string unescaped(const std::string& text) {
  std::string path;
  for (size_t at = 0; at < text.size(); ++at) {
    const bool escaped = text[at] == '\\' && at + 3 < text.size() &&
                         text.find_first_not_of("01234567", at + 1) > at + 3;
    if (escaped) {
      path += static_cast<char>(std::stoi(text.substr(at + 1, 3), nullptr, 8));
      at += 3;
    } else {
      path += text[at];
    }
  }
  return path;
}

bool holds(const std::string& list, const std::string& item) {
  return ("," + list + ",").find("," + item + ",") != std::string::npos;
}

std::vector<Hierarchy> hierarchies(const fs::path& root) {
  std::vector<Hierarchy> found;
  std::ifstream mounts(root / "proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string number, parent, device, mounted, mount, word, kind, source, options;
    words >> number >> parent >> device >> mounted >> mount;
    while (words >> word && word != "-") continue;  // as many optional fields as there are
    words >> kind >> source >> options;
    const bool is_version_1 = kind == "cgroup" && holds(options, "cpu");
    if (kind != "cgroup2" && !is_version_1) continue;
    found.push_back(
        {unescaped(mounted), root / fs::path(unescaped(mount)).relative_path(), is_version_1});
  }
  return found;
}

// The group this process is in: of "0::/group" in version 2, of "4:cpu,cpuacct:/group" in 1.
fs::path own_group(const fs::path& root, bool is_version_1) {
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (is_version_1 ? holds(controllers, "cpu") : controllers.empty()) {
      return line.substr(second + 1);
    }
  }
  return {};
}

// The strictest limit of the group and of those it is in. A group outside what is mounted is one
// that a container does not see; what is mounted limits it as well.
double limit_of(const fs::path& root, const Hierarchy& hierarchy) {
  double limit = limit_of(hierarchy.mount);
  fs::path below = own_group(root, hierarchy.is_version_1).lexically_relative(hierarchy.mounted);
  if (below.empty() || *below.begin() == "..") return limit;
  for (; !below.empty() && below != "."; below = below.parent_path()) {
    limit = std::min(limit, limit_of(hierarchy.mount / below));
  }
  return limit;
}

double limit_of_control_groups(const fs::path& root) {
  double limit = kNoLimit;
  for (const Hierarchy& each : hierarchies(root)) limit = std::min(limit, limit_of(root, each));
  return limit;
}

}  // namespace

int usable_cpus(const fs::path& root) {
  const double limit = limit_of_control_groups(root);
  const int cpus = cpus_of_affinity();
  return std::max(1, limit < cpus ? static_cast<int>(std::ceil(limit)) : cpus);
}

}  // namespace hsrt
