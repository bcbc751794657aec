# Words of a large text, counted, by a pipeline of ordinary programs: sort, which keeps its own temporary files, among them.
export LC_ALL=C
cat input.txt | tr -s ' ' '\n' | tr a-z A-Z | sed 's/7/SEVEN/g' | sort -S 4M -T . | uniq -c | sort -rn -S 4M -T . |
	awk '{ print NR, $2, $1 }' | gzip -n -9 > result.gz
echo "status $?"
